"""Changes of colour, byte for byte those of Pillow's `ImageOps` and `ImageEnhance`.

A frame is uint8 [3, H, W]. Where Pillow maps each byte by a table, so does `look_up`, unless an
operation on whole vectors of bytes does the same sooner; blends repeat Pillow's single precision.
"""

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

Frame = UInt8[np.ndarray, "3 height width"]
Table = UInt8[np.ndarray, "256"]


def look_up(plane: UInt8[np.ndarray, "height width"], table: Table) -> np.ndarray:
    """Return `plane` [H, W] with each byte replaced by its entry of `table`."""
    mapped = plane.tobytes().translate(table.tobytes())  # faster than any indexing of numpy
    return np.frombuffer(mapped, np.uint8).reshape(plane.shape)


def blend(
    frame: Frame, degenerate: Float32[np.ndarray, "#height #width"] | float, factor: float
) -> Frame:
    """Return ``degenerate + factor * (frame - degenerate)``, cut to bytes; 1 is no change."""
    mixed = frame.astype(np.float32)
    mixed -= degenerate
    mixed *= np.float32(factor)
    mixed += degenerate
    if factor > 1:
        np.clip(mixed, 0, 255, out=mixed)
    return mixed.astype(np.uint8)


def luma(frame: Frame) -> Float32[np.ndarray, "height width"]:
    """Return the grey levels (ITU-R 601, in 16-bit fixed point), whole numbers."""
    red, green, blue = frame.astype(np.float32)  # all sums stay below 2^24: exact
    red *= 19595
    green *= 38470
    blue *= 7471
    red += green
    red += blue
    red += 32768
    red *= 2.0**-16
    grey: np.ndarray = np.floor(red, out=red)
    return grey


def invert(frame: Frame) -> Frame:
    """Return the negative."""
    return ~frame


def posterize(frame: Frame, bits: int) -> Frame:
    """Keep the `bits` highest bits of each byte."""
    return frame & np.uint8(256 - (1 << (8 - bits)))


def solarize(frame: Frame, threshold: int) -> Frame:
    """Invert the bytes from `threshold` (0 .. 256) up."""
    if threshold > 255:
        return frame
    bright: np.ndarray = -(frame >= np.uint8(threshold)).view(np.uint8)  # bytes of ones
    out: np.ndarray = frame ^ bright
    return out


def solarize_add(frame: Frame, amount: int) -> Frame:
    """Add `amount` (0 .. 128) to the bytes below 128; none passes 255."""
    dark: np.ndarray = (frame < np.uint8(128)).view(np.uint8)
    return frame + dark * np.uint8(amount)


def autocontrast(frame: Frame) -> Frame:
    """Stretch each channel to 0 .. 255."""
    low, high = frame.min(axis=(1, 2)), frame.max(axis=(1, 2))
    if not low.any() and (high == 255).all():
        return frame
    out = frame.copy()
    for channel, (least, most) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if least < most:
            scale = 255 / (most - least)
            levels = np.arange(256) * scale + -least * scale
            out[channel] = look_up(frame[channel], np.clip(levels, 0, 255).astype(np.uint8))
    return out


def equalize(frame: Frame) -> Frame:
    """Flatten the histogram of each channel."""
    out = frame.copy()
    for channel, plane in enumerate(frame):
        counts = np.array(Image.fromarray(plane).histogram())  # thrice as fast as numpy's
        step = int(counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        if step:
            below = np.cumsum(counts) - counts
            table = np.minimum((below + step // 2) // step, 255).astype(np.uint8)
            out[channel] = look_up(plane, table)
    return out


def brightness(frame: Frame, factor: float) -> Frame:
    """Blend with black."""
    return blend(frame, 0.0, factor)


def contrast(frame: Frame, factor: float) -> Frame:
    """Blend with the rounded mean of the grey levels."""
    grey = luma(frame)
    return blend(frame, float(int(grey.mean(dtype=np.float64) + 0.5)), factor)


def colour(frame: Frame, factor: float) -> Frame:
    """Blend with the grey levels."""
    return blend(frame, luma(frame), factor)


def sharpness(frame: Frame, factor: float) -> Frame:
    """Blend with a smoothed frame: weights 1, and 5 in the centre, over 13; the border stays."""
    if min(frame.shape[1:]) < 3:
        return frame
    wide = frame.astype(np.int16)
    rows = wide[:, :-2] + wide[:, 1:-1]
    rows += wide[:, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1]
    sums += rows[..., 2:]
    sums += 4 * wide[:, 1:-1, 1:-1]
    smooth = sums.astype(np.float32)
    smooth *= np.float32(1 / 13)
    smooth += np.float32(0.5)  # a sum over 13 is at least 1/26 away from a half: no tie to round
    out = frame.copy()
    out[:, 1:-1, 1:-1] = blend(frame[:, 1:-1, 1:-1], np.floor(smooth, out=smooth), factor)
    return out
