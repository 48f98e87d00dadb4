"""Affine warps of a frame with a constant fill: the sampling rules of Pillow's `Image.transform`.

Output pixel (x, y) takes the value at ``A (x + 1/2, y + 1/2)`` of the input; outside it is filled,
inside the pixels of the border go on beyond it. Shears and translations move whole rows or columns,
hence interpolate in one direction only, a row of the frame at a time.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

Frame = UInt8[np.ndarray, "3 height width"]
Fill = tuple[int, int, int]
Filter = Literal["bicubic", "bilinear"]

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def shift_rows(
    frame: Frame, shifts: Float64[np.ndarray, "height"], interpolation: Filter, fill: Fill
) -> Frame:
    """Return ``out[y, x] = frame[y, x + shifts[y]]``, interpolated along the row.

    Single precision where Pillow has double: a byte is 1 off about once in 10^5.

    Args:
        frame: What to shift.
        shifts: Pixels by which each row moves to the left.
        interpolation: ``bicubic`` is the cubic convolution with a = -1 that Pillow warps with.
        fill: Colour of what comes from outside.
    """
    height, width = frame.shape[1:]
    shifts = shifts.clip(-width, width)
    whole = np.floor(shifts)
    start = whole.astype(np.intp)
    before, after = max(0, 1 - int(start.min())), max(0, 2 + int(start.max()))
    padded = np.empty((3, height, before + width + after), np.uint8)
    padded[..., :before] = frame[..., :1]
    padded[..., before : before + width] = frame
    padded[..., before + width :] = frame[..., -1:]
    windows = sliding_window_view(padded, width + 3, axis=2).transpose(1, 0, 2, 3)
    taps = windows[np.arange(height), :, start + (before - 1)].astype(np.float32)
    rest = np.repeat((shifts - whole).astype(np.float32), 3 * (width + 3))
    mix = _cubic if interpolation == "bicubic" else _linear
    rows = mix(taps.ravel(), rest).reshape(taps.shape)[..., :width]
    out = rows.transpose(1, 0, 2).astype(np.uint8, order="C")
    place = np.arange(width, dtype=np.int16)
    first, end = (np.ceil(side - shifts - 0.5).astype(np.int16)[:, None] for side in (0, width))
    keep = -((place >= first) & (place < end)).view(np.uint8)  # a byte of ones where inside
    out &= keep
    out |= ~keep & np.array(fill, np.uint8)[:, None, None]
    return out


def _linear(
    taps: Float32[np.ndarray, "places"], rest: Float32[np.ndarray, "places"]
) -> Float32[np.ndarray, "places"]:
    """Interpolate between places n + 1 and n + 2: the last three are rubbish."""
    mixed = np.empty_like(taps)
    near = taps[1:-2]
    part = np.subtract(taps[2:-1], near, out=mixed[:-3])
    part *= rest[:-3]
    part += near
    return mixed


def _cubic(
    taps: Float32[np.ndarray, "places"], rest: Float32[np.ndarray, "places"]
) -> Float32[np.ndarray, "places"]:
    """Interpolate between places n + 1 and n + 2 by n .. n + 3: the last three are rubbish."""
    mixed, rest = np.empty_like(taps), rest[:-3]
    a, b, c, d = taps[:-3], taps[1:-2], taps[2:-1], taps[3:]
    step = a - b
    part = np.subtract(d, c, out=mixed[:-3])  # Horner's scheme over whole numbers, exact
    part -= step
    step -= part
    part *= rest
    part += step
    part *= rest
    part += np.subtract(c, a, out=step)
    part *= rest
    part += b
    np.clip(part, 0, 255, out=part)
    return mixed


def _transpose(frame: Frame) -> Frame:
    return np.ascontiguousarray(frame.transpose(0, 2, 1))


def shear_x(frame: Frame, factor: float, interpolation: Filter, fill: Fill) -> Frame:
    """Move each row left by `factor` times its distance from the top."""
    return shift_rows(frame, factor * (np.arange(frame.shape[1]) + 0.5), interpolation, fill)


def shear_y(frame: Frame, factor: float, interpolation: Filter, fill: Fill) -> Frame:
    """Move each column up by `factor` times its distance from the left."""
    return _transpose(shear_x(_transpose(frame), factor, interpolation, fill))


def translate_x(frame: Frame, part: float, interpolation: Filter, fill: Fill) -> Frame:
    """Move everything left by `part` of the width."""
    height, width = frame.shape[1:]
    return shift_rows(frame, np.full(height, part * width), interpolation, fill)


def translate_y(frame: Frame, part: float, interpolation: Filter, fill: Fill) -> Frame:
    """Move everything up by `part` of the height."""
    return _transpose(translate_x(_transpose(frame), part, interpolation, fill))


def rotate(frame: Frame, degrees: float, interpolation: Filter, fill: Fill) -> Frame:
    """Turn counter-clockwise about the centre, by Pillow itself."""
    image = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
    turned = image.rotate(degrees, resample=_RESAMPLING[interpolation], fillcolor=fill)
    return np.ascontiguousarray(np.asarray(turned).transpose(2, 0, 1))
