"""RandAugment (Cubuk et al. 2020) as timm defines it, drawn once for all frames of a clip.

A name such as ``rand-m9-mstd0.5-inc1`` means: n of 15 operations (n2 unless given), drawn with
replacement; each is applied with probability p (p0.5), at a magnitude from N(m, mstd) clipped to
[0, 10]; with inc1 a larger magnitude always changes the image more. An identity among sixteen
operations, which others have, is the same as 15/16 of p.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from attnlab.data.transforms import recolour, warp
from attnlab.data.transforms.crop import Planes
from attnlab.data.transforms.warp import Filter

Arguments = Callable[[float, int], tuple[float, ...]]


class Operation(NamedTuple):
    """One kind of change.

    Attributes:
        arguments: Maps a magnitude in [0, 1] and a random sign to what `apply` takes.
        apply: The change of one frame.
        warps: Whether `apply` also takes an interpolation and a fill.
    """

    arguments: Arguments
    apply: Callable[..., recolour.Frame]
    warps: bool = False


class Step(NamedTuple):
    """An operation as drawn."""

    name: str
    arguments: tuple[float, ...]
    interpolation: Filter


def _nothing(part: float, sign: int) -> tuple[float, ...]:
    return ()


def _signed(part: float, sign: int, most: float) -> tuple[float, ...]:
    return (sign * part * most,)


def _enhance_increasing(part: float, sign: int) -> tuple[float, ...]:
    return (max(0.1, 1 + sign * 0.9 * part),)


def _enhance(part: float, sign: int) -> tuple[float, ...]:
    return (0.1 + 1.8 * part,)


def _bits_increasing(part: float, sign: int) -> tuple[float, ...]:
    return (max(1, 4 - int(part * 4)),)  # timm keeps 0 bits at part 1: a black image, or an error


def _bits(part: float, sign: int) -> tuple[float, ...]:
    return (max(1, int(part * 4)),)


def _threshold_increasing(part: float, sign: int) -> tuple[float, ...]:
    return (256 - int(part * 256),)


def _threshold(part: float, sign: int) -> tuple[float, ...]:
    return (int(part * 256),)


def _addend(part: float, sign: int) -> tuple[float, ...]:
    return (int(part * 110),)


INCREASING = {
    "AutoContrast": Operation(_nothing, recolour.autocontrast),
    "Equalize": Operation(_nothing, recolour.equalize),
    "Invert": Operation(_nothing, recolour.invert),
    "Rotate": Operation(partial(_signed, most=30.0), warp.rotate, warps=True),
    "Posterize": Operation(_bits_increasing, recolour.posterize),
    "Solarize": Operation(_threshold_increasing, recolour.solarize),
    "SolarizeAdd": Operation(_addend, recolour.solarize_add),
    "Color": Operation(_enhance_increasing, recolour.colour),
    "Contrast": Operation(_enhance_increasing, recolour.contrast),
    "Brightness": Operation(_enhance_increasing, recolour.brightness),
    "Sharpness": Operation(_enhance_increasing, recolour.sharpness),
    "ShearX": Operation(partial(_signed, most=0.3), warp.shear_x, warps=True),
    "ShearY": Operation(partial(_signed, most=0.3), warp.shear_y, warps=True),
    "TranslateX": Operation(partial(_signed, most=0.45), warp.translate_x, warps=True),
    "TranslateY": Operation(partial(_signed, most=0.45), warp.translate_y, warps=True),
}
"""The operations of ``inc1``, with timm's names less its suffixes Increasing and Rel."""

PLAIN = INCREASING | {
    "Posterize": Operation(_bits, recolour.posterize),
    "Solarize": Operation(_threshold, recolour.solarize),
    "Color": Operation(_enhance, recolour.colour),
    "Contrast": Operation(_enhance, recolour.contrast),
    "Brightness": Operation(_enhance, recolour.brightness),
    "Sharpness": Operation(_enhance, recolour.sharpness),
}
"""The operations of ``inc0``, some of which change less the larger the magnitude."""


class RandAugment:
    """Applies random operations to frames.

    Args:
        policy: Such as ``rand-m9-mstd0.5-inc1``: ``rand`` and then, in any order, m (mean
            magnitude, 10 if absent), n (operations drawn, 2), p (probability of each, 0.5), mstd
            (standard deviation of the magnitude, 0; above 100 it is uniform in [0, m]) and inc
            (0 or 1, 0).
        interpolation: Filter of the warps; ``random`` draws one of the two for each.
        fill: Colour of what a warp brings in: the mean of the data.

    Raises:
        ValueError: `policy` is not understood.
    """

    def __init__(
        self,
        policy: str = "rand-m9-mstd0.5-inc1",
        interpolation: Filter | Literal["random"] = "bicubic",
        fill: Sequence[int] = (124, 116, 104),
    ) -> None:
        options = {"m": 10.0, "n": 2.0, "p": 0.5, "mstd": 0.0, "inc": 0.0}
        head, *parts = policy.split("-")
        for part in parts:
            match = re.fullmatch(r"(m|n|p|mstd|inc)(\d+\.?\d*|inf)", part)
            if match is None or head != "rand":
                raise ValueError(f"{policy=} must look like rand-m9-n2-p0.5-mstd0.5-inc1")
            options[match[1]] = float(match[2])
        self.magnitude, self.deviation = options["m"], options["mstd"]
        self.count, self.probability = int(options["n"]), options["p"]
        if options["n"] % 1 or self.probability > 1 or options["inc"] not in (0, 1):
            raise ValueError(f"{policy=} must have a whole n, p in [0, 1] and inc0 or inc1")
        if head != "rand":
            raise ValueError(f"{policy=} must start with rand")
        self.operations = INCREASING if options["inc"] else PLAIN
        self.names = tuple(self.operations)
        self.interpolation: Filter | Literal["random"] = interpolation
        red, green, blue = fill
        self.fill = red, green, blue

    def _magnitude(self, rng: np.random.Generator) -> float:
        """Draw a magnitude in [0, 1]."""
        if self.deviation > 100:
            level = self.magnitude * rng.random()
        else:
            level = self.magnitude + self.deviation * rng.standard_normal()
        return min(max(level, 0.0), 10.0) / 10

    def draw(self, rng: np.random.Generator) -> list[Step]:
        """Return what to do to a sample."""
        steps = []
        for _ in range(self.count):
            name = self.names[int(rng.random() * len(self.names))]
            if rng.random() >= self.probability:
                continue
            part, sign = self._magnitude(rng), 1 if rng.random() < 0.5 else -1
            interpolation = self.interpolation
            if interpolation == "random":
                interpolation = "bilinear" if rng.random() < 0.5 else "bicubic"
            steps.append(Step(name, self.operations[name].arguments(part, sign), interpolation))
        return steps

    def apply(self, frame: recolour.Frame, steps: Sequence[Step]) -> recolour.Frame:
        """Return one frame after `steps`.

        Args:
            frame: Bytes [3, H, W].
            steps: Of `draw`.
        """
        for step in steps:
            operation = self.operations[step.name]
            where: tuple[Any, ...] = (step.interpolation, self.fill) if operation.warps else ()
            frame = operation.apply(frame, *step.arguments, *where)
        return frame

    def __call__(self, frames: Planes, rng: np.random.Generator) -> Planes:
        """Return the frames after one draw of steps, the same for all."""
        steps = self.draw(rng)
        if not steps:
            return frames
        return np.stack([self.apply(frame, steps) for frame in frames])
