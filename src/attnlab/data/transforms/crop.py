"""Crops of uint8 frames, resized with antialiasing: Pillow's numbers at a quarter of its cost."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn.functional import interpolate

Interpolation = Literal["bicubic", "bilinear"]
Frames = UInt8[np.ndarray, "frames height width 3"]
Planes = UInt8[np.ndarray, "frames 3 height width"]

TRIES = 10
"""Boxes drawn before a random-resized crop falls back to a central one."""


class Box(NamedTuple):
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def check_ranges(scale: Sequence[float], ratio: Sequence[float]) -> None:
    """Check the ranges of a random-resized crop.

    Raises:
        ValueError: A range is empty, not positive, or the area exceeds the image's.
    """
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"{scale=} must be two ascending areas in (0, 1]")
    if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"{ratio=} must be two ascending positive ratios")


def random_resized_box(
    height: int,
    width: int,
    scale: Sequence[float],
    ratio: Sequence[float],
    rng: np.random.Generator,
) -> Box:
    """Draw the box of a random-resized crop (Szegedy et al. 2015, section 6), as torchvision does.

    Area uniform in `scale`, aspect ratio log-uniform in `ratio`; after ten boxes that do not fit,
    the largest central one whose ratio is allowed.

    Args:
        height: Height of the image.
        width: Width of the image.
        scale: Least and largest area, as a part of the image's.
        ratio: Least and largest width over height.
        rng: Source of randomness.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(TRIES):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * rng.random())
        aspect = math.exp(low + (high - low) * rng.random())
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = (int(rng.random() * (room + 1)) for room in (height - h, width - w))
            return Box(top, left, h, w)
    h, w = height, width
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return Box((height - h) // 2, (width - w) // 2, h, w)


def resize(
    frames: Frames,
    size: tuple[int, int],
    box: Box | None = None,
    interpolation: Interpolation = "bicubic",
) -> UInt8[np.ndarray, "frames new_height new_width 3"]:
    """Resize frames, or a box of them, with the antialiasing filter of Pillow.

    The box is cut out first, so no pixel outside it counts. Torch's weights have 16 bits where
    Pillow's have 22: about one byte in a hundred differs, by 1 or 2. Bytes are rounded between the
    two directions, in the order of Pillow 13: columns come first where that leaves clearly less to
    do (a fifth faster). Up to version 12 Pillow began with the rows always.

    Args:
        frames: What to resize.
        size: New height and width.
        box: What to keep of each frame; all of it when None.
        interpolation: The filter; cubic with a = -0.5.
    """
    if box is not None:
        top, left, height, width = box
        frames = np.ascontiguousarray(frames[:, top : top + height, left : left + width])
    if frames.shape[1:3] == size:
        return frames
    pixels = torch.from_numpy(frames if frames.flags.writeable else frames.copy())
    resized = pixels.permute(0, 3, 1, 2)  # channels last, not copied: the fast kernel's layout
    down, across = frames.shape[1] - size[0], frames.shape[2] - size[1]
    steps = [(size[0], frames.shape[2]), size] if down > 2 * max(0, across) else [size]
    for step in steps:
        resized = interpolate(resized, step, mode=interpolation, antialias=True)
    return resized.permute(0, 2, 3, 1).numpy()


def resize_short_side(
    frames: Frames, size: int, interpolation: Interpolation = "bicubic"
) -> UInt8[np.ndarray, "frames new_height new_width 3"]:
    """Resize frames to a short side of `size`; the long side is rounded down, as torchvision's."""
    height, width = frames.shape[1:3]
    short = min(height, width)
    return resize(frames, (size * height // short, size * width // short), None, interpolation)


def to_planes(frames: Frames, flip: bool = False) -> Planes:
    """Return frames with the channels first, contiguous, mirrored left to right if `flip`."""
    count, height, width, channels = frames.shape
    planes = np.empty((count, channels, height, width), np.uint8)
    source = frames[:, :, ::-1] if flip else frames
    for channel in range(channels):  # a third of the time of one transposed copy
        planes[:, channel] = source[..., channel]
    return planes
