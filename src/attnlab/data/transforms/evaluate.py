"""What the network sees of a validation or test sample."""

import math

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from attnlab.data.transforms.crop import Interpolation, resize_short_side, to_planes


class EvalTransform:
    """Resizes the short side to ``size / crop_ratio``, rounded down, and crops the centre.

    With several crops these lie side by side along the long side: the first and the last touch
    its ends and the centre is among them (3 of them: left, centre, right of a wide clip). The views
    follow one another, each with all its frames, so ``views.unflatten(0, (crops, -1))`` gives
    [crops, frames, 3, size, size].

    Args:
        size: Height and width of the result, in pixels.
        crop_ratio: Side of the crop over the resized short side, in (0, 1].
        crops: Number of crops.
        interpolation: Filter of the resizing.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        size: int = 224,
        crop_ratio: float = 0.875,
        crops: int = 1,
        interpolation: Interpolation = "bicubic",
    ) -> None:
        if size < 1 or crops < 1:
            raise ValueError(f"{size=} and {crops=} must be at least 1")
        if not 0 < crop_ratio <= 1:
            raise ValueError(f"{crop_ratio=} must be in (0, 1]")
        self.size = size
        self.crops = crops
        self.interpolation: Interpolation = interpolation
        self.short_side = math.floor(size / crop_ratio)

    def __call__(
        self, frames: UInt8[np.ndarray, "frames height width 3"], rng: np.random.Generator
    ) -> UInt8[Tensor, "views 3 size size"]:
        """Return the crops; nothing is drawn from `rng`."""
        frames = resize_short_side(frames, self.short_side, self.interpolation)
        height, width = frames.shape[1:3]
        views = []
        for part in np.linspace(0, 1, self.crops) if self.crops > 1 else (0.5,):
            along = (part, 0.5) if height > width else (0.5, part)
            top, left = (
                round(where * (side - self.size))
                for where, side in zip(along, (height, width), strict=True)
            )
            crop = frames[:, top : top + self.size, left : left + self.size]
            views.append(to_planes(crop))
        return torch.from_numpy(views[0] if self.crops == 1 else np.concatenate(views))
