"""What each exact form of LiSA costs on a grid: a few measured coefficients times counts.

``costs.json`` holds, per kind of device and of number, how long one operation of each kind takes,
fitted to layers in training by ``python -m attnlab.bench dispatch``, which rewrites it. Only
Python numbers are computed with, so `torch.compile` and `torch.export` see a constant.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from attnlab.operators.base import Grid
from attnlab.operators.lisa.spectral import fast_length

Form = Literal["none", "fft"]
Costs = Mapping[str, Mapping[torch.dtype, Mapping[str, Mapping[str, float]]]]
"""Nanoseconds per operation by `kind` of device, type of number, form and kind of operation."""


class Sizes(NamedTuple):
    """What a layer's cost depends on; arguments of `LiSA` by these names, but for `rpes`.

    Attributes:
        grid: Token grid of the input.
        stride: Step between output tokens.
        rpes: Number R of tables.
        heads: Attention heads.
        key_groups: Number of keys, each shared by heads / key_groups heads.
        key_dim: Channels of a key.
        out_dim: Channels of the values, of all heads.
        variant: ``pattern`` or ``mask``.
    """

    grid: Grid
    stride: int
    rpes: int
    heads: int
    key_groups: int
    key_dim: int
    out_dim: int
    variant: str


def _queries(sizes: Sizes) -> int:
    """Return the number of output tokens."""
    return math.prod([-(-size // sizes.stride) for size in sizes.grid])


def dense_work(sizes: Sizes) -> dict[str, int]:
    """Count what one sample costs the dense form, by kind of operation.

    Returns:
        ``pairs``: kernels kappa_nm built, of all heads, three of them in ``mask`` (structure,
        attention, product); ``products``: multiplications between queries and keys whose sums run
        over tokens or channels; ``tables``: those over R tables.
    """
    pairs = math.prod(sizes.grid) * _queries(sizes)
    masked = sizes.variant == "mask"
    keys = sizes.key_dim * (sizes.heads if masked else sizes.rpes * sizes.key_groups)
    return {
        "pairs": pairs * sizes.heads * (3 if masked else 1),
        "products": pairs * (sizes.out_dim + keys),
        "tables": pairs * sizes.heads * sizes.rpes,
    }


def spectral_work(sizes: Sizes) -> dict[str, float]:
    """Count what one sample costs the form by FFTs, by kind of operation.

    Forward, a map is transformed once and R convolutions back; backward, R products with scores
    are transformed, their sum back and the map once more: 2 R + 3 transforms of a real map.

    Returns:
        ``butterflies``: points times log2(points) of all transforms; ``points``: numbers in the
        padded buffers of all R, once per two axes, for each axis is a pass over them.
    """
    points = math.prod([fast_length(2 * size - 1) for size in sizes.grid])
    maps = sizes.key_groups * sizes.key_dim + sizes.out_dim
    if sizes.variant == "mask":
        maps = sizes.key_dim * sizes.out_dim
    return {
        "butterflies": maps * (2 * sizes.rpes + 3) * points * math.log2(points),
        "points": maps * sizes.rpes * points * len(sizes.grid) / 2,
    }


WORK: Mapping[str, Callable[[Sizes], Mapping[str, float]]] = {
    "none": dense_work,
    "fft": spectral_work,
}
"""The counts of each form, by `approximation`."""


def read(path: Path) -> Costs:
    """Return the coefficients in a file that ``attnlab.bench dispatch`` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        device: {getattr(torch, dtype): forms for dtype, forms in measured["nanoseconds"].items()}
        for device, measured in content.items()
    }


COSTS = read(Path(__file__).with_name("costs.json"))
"""The coefficients that come with the package."""


def seconds(form: Form, sizes: Sizes, coefficients: Mapping[str, Mapping[str, float]]) -> float:
    """Return how long forward and backward of the structure term of one sample take, about.

    Args:
        form: ``none`` (dense) or ``fft``.
        sizes: Of the layer.
        coefficients: By form and kind of operation, see `nearest`.
    """
    work, each = WORK[form](sizes), coefficients[form]
    return sum(each[kind] * count for kind, count in work.items()) / 1e9


def kind(device_type: str) -> str:
    """Return the name of a type of device in the costs; a CPU that runs one thread has its own.

    Ask once, outside of what is compiled: compilers cannot trace the number of threads.
    """
    alone = device_type == "cpu" and torch.get_num_threads() == 1
    return "cpu, one thread" if alone else device_type


def nearest(
    costs: Costs, device_kind: str, dtype: torch.dtype
) -> Mapping[str, Mapping[str, float]]:
    """Return the coefficients measured for a device and type of number, or the nearest there are.

    A device that was not measured is taken for a CPU, a type for float32: no FFT is narrower.
    """
    measured = costs[device_kind if device_kind in costs else "cpu"]
    return measured.get(dtype, measured[torch.float32])


def cheapest(sizes: Sizes, dtype: torch.dtype, device_kind: str) -> Form:
    """Return the exact form that trains faster: ``none`` (dense) or ``fft``.

    Args:
        sizes: Of the layer, with at least one table.
        dtype: Of the tokens.
        device_kind: See `kind` and `nearest`.
    """
    coefficients = nearest(COSTS, device_kind, dtype)
    dense = seconds("none", sizes, coefficients)
    return "none" if dense <= seconds("fft", sizes, coefficients) else "fft"
