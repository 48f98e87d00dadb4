"""What the network sees of a training sample: a random crop, mirrored and recoloured."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from attnlab.data.transforms.crop import (
    Interpolation,
    Planes,
    check_ranges,
    random_resized_box,
    resize,
    to_planes,
)
from attnlab.data.transforms.jitter import ColorJitter, simclr_jitter
from attnlab.data.transforms.rand_augment import RandAugment


class TrainTransform:
    """Random-resized crop, horizontal flip, RandAugment and jitter, one draw for all frames.

    Args:
        size: Height and width of the result, in pixels.
        scale: Least and largest area of the crop, as a part of the image's.
        ratio: Least and largest width over height of the crop.
        flip: Probability of mirroring left to right; 0 for clips whose classes know directions.
        auto_augment: Policy of `RandAugment`, such as ``rand-m9-mstd0.5-inc1``; none if None or
            empty: a flag can give an empty text, but not null.
        color_jitter: Strength of brightness, contrast and saturation of `ColorJitter`. With
            `auto_augment` it comes on top, where timm would leave it out.
        simclr_jitter: Strength of `jitter.simclr_jitter`.
        interpolation: Filter of the resizing and of RandAugment's warps; ``random`` draws one.
        fill: Colour of what RandAugment's warps bring in: the mean of the data, in bytes.

    Raises:
        ValueError: An argument is out of range, or `auto_augment` is not understood.
    """

    def __init__(
        self,
        size: int = 224,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        auto_augment: str | None = None,
        color_jitter: float = 0.0,
        simclr_jitter: float = 0.0,
        interpolation: Interpolation | Literal["random"] = "bicubic",
        fill: Sequence[int] = (124, 116, 104),
    ) -> None:
        if size < 1:
            raise ValueError(f"{size=} must be at least 1")
        if not 0 <= flip <= 1:
            raise ValueError(f"{flip=} must be in [0, 1]")
        check_ranges(scale, ratio)
        self.size = size
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)
        self.flip = flip
        self.interpolation: Interpolation | Literal["random"] = interpolation
        self.changes = _changes(auto_augment, color_jitter, simclr_jitter, interpolation, fill)

    def __call__(
        self, frames: UInt8[np.ndarray, "frames height width 3"], rng: np.random.Generator
    ) -> UInt8[Tensor, "frames 3 size size"]:
        """Return the frames that the network sees."""
        height, width = frames.shape[1:3]
        box = random_resized_box(height, width, self.scale, self.ratio, rng)
        interpolation = self.interpolation
        if interpolation == "random":
            interpolation = "bilinear" if rng.random() < 0.5 else "bicubic"
        frames = resize(frames, (self.size, self.size), box, interpolation)
        planes = to_planes(frames, flip=rng.random() < self.flip)
        for change in self.changes:
            planes = change(planes, rng)
        return torch.from_numpy(planes)


def _changes(
    auto_augment: str | None,
    color_jitter: float,
    simclr_strength: float,
    interpolation: Interpolation | Literal["random"],
    fill: Sequence[int],
) -> list[Callable[[Planes, np.random.Generator], Planes]]:
    """Return what is done to a crop, in order."""
    changes: list[Callable[[Planes, np.random.Generator], Planes]] = []
    if auto_augment:
        changes.append(RandAugment(auto_augment, interpolation, fill))
    if color_jitter:
        changes.append(ColorJitter(color_jitter, color_jitter, color_jitter))
    if simclr_strength:
        changes.append(simclr_jitter(simclr_strength))
    return changes
