"""Seeded composition of images from scanned digits and photographs.

Everything drawn comes from the generator passed in, and all arithmetic is on integers, so that a
seed gives the same bytes on every machine. Nothing but the named digit depends on the label.
"""

import numpy as np
from jaxtyping import Integer, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

COMPOSER_VERSION = 1
"""Part of every cache key: raise it with any change that alters a composed pixel."""

_SIDE = 32
_CLUTTER_SIZES = range(11, 16)  # of the digit, in pixels
_FRAGMENTS, _FRAGMENT_SIDE, _FRAGMENT_SOURCE = 5, 5, 13  # cut from digits of the middle size
_PAIR_SIZE = 12  # of both digits, and the least distance between their left edges

Scans = UInt8[np.ndarray, "scans 8 8"]
ScanLabels = UInt8[np.ndarray, "scans"]
Images = UInt8[np.ndarray, "count 1 side side"]
Labels = UInt8[np.ndarray, "count"]


def enlarge(scans: Scans, side: int) -> UInt8[np.ndarray, "scans {side} {side}"]:
    """Resize scans bicubically to `side` pixels."""
    size = (side, side)
    resized = [Image.fromarray(scan).resize(size, Image.Resampling.BICUBIC) for scan in scans]
    return np.stack([np.asarray(image) for image in resized])


def draw_balanced(
    rng: np.random.Generator, labels: ScanLabels, count: int
) -> Integer[np.ndarray, "{count}"]:
    """Draw `count` scans, with replacement, such that class sizes differ by one at most."""
    classes = rng.permutation(np.arange(count) % (labels.max() + 1))
    sizes = np.bincount(labels)
    first = np.cumsum(sizes) - sizes
    chosen: np.ndarray = np.argsort(labels, kind="stable")[
        first[classes] + rng.integers(sizes[classes])
    ]
    return chosen


def paste(
    canvas: UInt8[np.ndarray, "count rows columns"],
    patches: UInt8[np.ndarray, "count height width"],
    top: Integer[np.ndarray, "count"],
    left: Integer[np.ndarray, "count"],
) -> None:
    """Lay one patch over each canvas, in place."""
    _, height, width = patches.shape
    window = (
        np.arange(len(canvas))[:, None, None],
        top[:, None, None] + np.arange(height)[:, None],
        left[:, None, None] + np.arange(width),
    )
    canvas[window] = patches


def paste_scans(
    canvas: UInt8[np.ndarray, "count rows columns"],
    scans: Scans,
    chosen: Integer[np.ndarray, "count"],
    side: Integer[np.ndarray, "count"],
    top: Integer[np.ndarray, "count"],
    left: Integer[np.ndarray, "count"],
) -> None:
    """Lay one scan over each canvas, enlarged to `side` pixels, in place."""
    for size in np.unique(side):
        own = np.flatnonzero(side == size)
        part = canvas[own]
        paste(part, enlarge(scans, int(size))[chosen[own]], top[own], left[own])
        canvas[own] = part


def draw_windows(
    rng: np.random.Generator,
    textures: UInt8[np.ndarray, "photographs rows columns"],
    side: int,
    count: int,
) -> UInt8[np.ndarray, "{count} {side} {side}"]:
    """Draw windows of photographs, any place being as likely as any other."""
    windows = sliding_window_view(textures, (side, side), axis=(1, 2))
    drawn: np.ndarray = windows[tuple(rng.integers(size, size=count) for size in windows.shape[:3])]
    return drawn


def dimmed(pixels: UInt8[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Return three fifths of the brightness."""
    return (pixels.astype(np.uint16) * 3 // 5).astype(np.uint8)


def compose_clutter(
    rng: np.random.Generator,
    scans: Scans,
    labels: ScanLabels,
    textures: UInt8[np.ndarray, "photographs rows columns"],
    count: int,
) -> tuple[Images, Labels]:
    """Compose 32x32 images of one digit among fragments of others on a photograph.

    The digit is 11 to 15 pixels wide and lies anywhere, over the fragments, so that it stays
    legible. The five fragments, 5x5 pixels, are cut from scans of any class. The background, a
    window of a photograph at 0.6 of its brightness, shows where it is brighter than the ink.

    Returns:
        Images [count, 1, 32, 32] and the digits' values [count].
    """
    ink = np.zeros((count, _SIDE, _SIDE), np.uint8)
    pieces = sliding_window_view(
        enlarge(scans, _FRAGMENT_SOURCE), (_FRAGMENT_SIDE, _FRAGMENT_SIDE), axis=(1, 2)
    )
    for _ in range(_FRAGMENTS):
        fragments = pieces[tuple(rng.integers(size, size=count) for size in pieces.shape[:3])]
        top, left = rng.integers(_SIDE - _FRAGMENT_SIDE + 1, size=(2, count))
        paste(ink, fragments, top, left)

    digits = draw_balanced(rng, labels, count)
    sizes = rng.choice(_CLUTTER_SIZES, count)
    top, left = rng.integers(_SIDE - sizes + 1, size=(2, count))
    paste_scans(ink, scans, digits, sizes, top, left)
    canvas = np.maximum(ink, dimmed(draw_windows(rng, textures, _SIDE, count)))
    return canvas[:, None], labels[digits]


def compose_pair(
    rng: np.random.Generator, scans: Scans, labels: ScanLabels, count: int
) -> tuple[Images, Labels]:
    """Compose 32x32 images of two digits side by side, labelled with the left one's value.

    Both are 12 pixels wide, on black; their left edges lie 12 to 20 pixels apart, their heights
    are independent, and so are their values.

    Returns:
        Images [count, 1, 32, 32] and the left digits' values [count].
    """
    enlarged = enlarge(scans, _PAIR_SIZE)
    canvas = np.zeros((count, _SIDE, _SIDE), np.uint8)
    free = _SIDE - _PAIR_SIZE  # the rightmost left edge
    distance = rng.integers(_PAIR_SIZE, free + 1, size=count)
    left = rng.integers(free - distance + 1)
    digits = draw_balanced(rng, labels, count)
    for chosen, column in (
        (digits, left),
        (draw_balanced(rng, labels, count), left + distance),
    ):
        paste(canvas, enlarged[chosen], rng.integers(free + 1, size=count), column)
    return canvas[:, None], labels[digits]
