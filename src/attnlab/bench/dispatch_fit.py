"""How `attnlab.bench dispatch` turns times of layers into coefficients, and judges the choices."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from attnlab.operators.lisa.cost import WORK, Form, Sizes, seconds

FORMS: tuple[Form, ...] = ("none", "fft")
"""The exact forms of LiSA: dense, and by Fourier transforms."""

Coefficients = Mapping[str, Mapping[str, float]]
"""Nanoseconds per operation, by form and kind."""


Kind = tuple[str, str]
"""Form, or ``shared``, and kind of operation."""


@dataclass(frozen=True)
class Layer:
    """A layer that was measured.

    Attributes:
        sizes: Of the structure term.
        seconds: Of forward and backward of the whole layer, per sample, by form.
    """

    sizes: Sizes
    seconds: Mapping[Form, float]

    @property
    def best(self) -> float:
        """Time of the faster form."""
        return min(self.seconds.values())


def shared_work(sizes: Sizes) -> dict[str, int]:
    """Count what both forms do alike: projections and content term, and passes over tokens."""
    tokens, width = math.prod(sizes.grid), sizes.out_dim
    keys = (sizes.heads + sizes.key_groups) * sizes.key_dim
    return {"projections": tokens * width * (2 * width + keys), "maps": tokens * width}


def fit(layers: Sequence[Layer]) -> dict[str, dict[str, float]]:
    """Return the coefficients, none below 0, that predict the layers' times best.

    Least squares of relative errors. A layer counts the less the further apart its forms are: a
    wrong time misleads where both are about as fast. What the forms share is fitted along, once
    for both, and is not returned, for it decides nothing.
    """
    kinds: list[Kind] = [(form, kind) for form in FORMS for kind in WORK[form](layers[0].sizes)]
    kinds += [("shared", kind) for kind in shared_work(layers[0].sizes)]
    rows = [row for layer in layers for row in _rows(layer)]
    matrix = np.array([[work.get(kind, 0.0) for kind in kinds] for work, _ in rows])
    weights = np.array([weight for _, weight in rows])
    scale = np.linalg.norm(matrix, axis=0)
    found = nnls(matrix / scale, weights)[0] / scale
    each: dict[str, dict[str, float]] = {form: {} for form in FORMS}
    for (form, kind), coefficient in zip(kinds, found, strict=True):
        if form in each:
            each[form][kind] = float(f"{1e9 * coefficient:.4g}")
    return each


def _rows(layer: Layer) -> Iterator[tuple[dict[Kind, float], float]]:
    """Yield counts in units of the time that they took, weighted, and the weight."""
    gap = abs(math.log(layer.seconds["none"] / layer.seconds["fft"]))
    weight = 1 / (1 + (2 * gap) ** 2)
    shared = shared_work(layer.sizes)
    for form, took in layer.seconds.items():
        counts: dict[Kind, float] = {
            (form, kind): count for kind, count in WORK[form](layer.sizes).items()
        }
        counts |= {("shared", kind): count for kind, count in shared.items()}
        yield {kind: weight * count / took for kind, count in counts.items()}, weight


def choice(layer: Layer, coefficients: Coefficients) -> Form:
    """Return the form that the coefficients choose."""
    dense, fft = (seconds(form, layer.sizes, coefficients) for form in FORMS)
    return "none" if dense <= fft else "fft"


def regret(layer: Layer, coefficients: Coefficients) -> float:
    """Return the time of the form that is chosen over that of the faster one, at least 1."""
    return layer.seconds[choice(layer, coefficients)] / layer.best
