"""What the network sees of a training sample: a random crop, mirrored and recoloured."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from attnlab.data.transforms.crop import (
    Interpolation,
    check_ranges,
    random_resized_box,
    resize,
    to_planes,
)


class TrainTransform:
    """Random-resized crop and horizontal flip, by one draw for all frames.

    Args:
        size: Height and width of the result, in pixels.
        scale: Least and largest area of the crop, as a part of the image's.
        ratio: Least and largest width over height of the crop.
        flip: Probability of mirroring left to right; 0 for clips whose classes know directions.
        interpolation: Filter of the resizing.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        size: int = 224,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        interpolation: Interpolation = "bicubic",
    ) -> None:
        if size < 1:
            raise ValueError(f"{size=} must be at least 1")
        check_ranges(scale, ratio)
        if not 0 <= flip <= 1:
            raise ValueError(f"{flip=} must be a probability")
        self.size = size
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)
        self.flip = flip
        self.interpolation: Interpolation = interpolation

    def __call__(
        self, frames: UInt8[np.ndarray, "frames height width 3"], rng: np.random.Generator
    ) -> UInt8[Tensor, "frames 3 size size"]:
        """Return the crop of every frame."""
        height, width = frames.shape[1:3]
        box = random_resized_box(height, width, self.scale, self.ratio, rng)
        frames = resize(frames, (self.size, self.size), box, self.interpolation)
        return to_planes(frames, flip=rng.random() < self.flip)
