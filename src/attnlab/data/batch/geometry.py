"""Crops, flips and holes for a whole batch of bytes, on its device, before normalisation."""

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.nn.functional import pad

from attnlab.data.batch.draws import Seeds, integers, uniform

Pixels = UInt8[Tensor, "batch channels height width"]


class RandomCrop:
    """Pads with black and crops back to the size at a random place, as is the habit on CIFAR.

    Args:
        padding: Border added on every side, in pixels.

    Raises:
        ValueError: `padding` is negative.
    """

    def __init__(self, padding: int = 4) -> None:
        if padding < 0:
            raise ValueError(f"{padding=} must not be negative")
        self.padding = padding

    def __call__(self, pixels: Pixels, seeds: Seeds) -> Pixels:
        """Return images shifted by up to `padding` pixels in each direction."""
        batch, channels, height, width = pixels.shape
        places = 2 * self.padding + 1
        top, left = (integers(seeds, f"crop/{side}", places) for side in ("top", "left"))
        padded = pad(pixels, [self.padding] * 4)
        image, plane, row, _ = padded.stride()
        windows = padded.as_strided(
            (batch, places, places, channels, height, width), (image, row, 1, plane, row, 1)
        )  # views of every possible crop, of which one per image is copied
        return windows[torch.arange(batch, device=pixels.device), top, left]


class RandomFlip:
    """Mirrors images left to right.

    Args:
        probability: Part of the images that are mirrored.

    Raises:
        ValueError: `probability` is outside [0, 1].
    """

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"{probability=} must be in [0, 1]")
        self.probability = probability

    def __call__(self, pixels: Pixels, seeds: Seeds) -> Pixels:
        """Return the images, some mirrored."""
        flipped = uniform(seeds, "flip", 1) < self.probability
        return torch.where(flipped[..., None, None], pixels.flip(-1), pixels)


class Cutout:
    """Covers one square of every image with grey (DeVries and Taylor 2017).

    Its centre is uniform over the image, so that the square may reach over the border.

    Args:
        size: Side of the square, in pixels.
        fill: Grey level of the square; the paper's is the data's mean.

    Raises:
        ValueError: `size` is negative, or `fill` is no byte.
    """

    def __init__(self, size: int = 8, fill: int = 124) -> None:
        if size < 0:
            raise ValueError(f"{size=} must not be negative")
        if not 0 <= fill <= 255:
            raise ValueError(f"{fill=} must be in 0 .. 255")
        self.size = size
        self.fill = fill

    def __call__(self, pixels: Pixels, seeds: Seeds) -> Pixels:
        """Return the images with their squares."""
        height, width = pixels.shape[2:]
        rows, columns = (
            _within(integers(seeds, f"cutout/{name}", side) - self.size // 2, self.size, side)
            for name, side in (("y", height), ("x", width))
        )
        return pixels.masked_fill((rows[:, :, None] & columns[:, None])[:, None], self.fill)


def _within(start: Int64[Tensor, "batch"], length: int, side: int) -> Bool[Tensor, "batch {side}"]:
    """Return which of `side` positions lie in [start, start + length), per sample."""
    place = torch.arange(side, device=start.device)
    return (place >= start[:, None]) & (place < start[:, None] + length)
