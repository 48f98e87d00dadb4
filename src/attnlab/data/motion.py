"""Seeded composition of clips whose class lies in the order of their frames alone.

Every second clip is another one played backwards, and has the class opposite to it. As in
`composer`, everything drawn comes from the generator passed in and all arithmetic is on integers.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from attnlab.data.composer import Labels, Scans, dimmed, draw_windows, paste, paste_scans

TEMPLATES = (
    "Pushing [something] from left to right",
    "Pushing [something] from right to left",
    "Moving [something] up",
    "Moving [something] down",
    "Moving [something] towards the camera",
    "Moving [something] away from the camera",
    "Covering [something] with [something]",
    "Uncovering [something]",
)
"""The classes in order, as Something-Something-V2 words them; 2 i + 1 is 2 i played backwards."""

JITTER = 1
"""Pixels that the background moves at most on each axis, anew in every frame."""

Textures = UInt8[np.ndarray, "photographs rows columns"]
Clips = UInt8[np.ndarray, "count frames 1 side side"]
Path = Integer[np.ndarray, "count frames"]


class Track(NamedTuple):
    """Squares in every frame of some clips: their side and their upper left corner, in pixels."""

    side: Path
    top: Path
    left: Path


def _between(
    first: Integer[np.ndarray, "count"], last: Integer[np.ndarray, "count"], frames: int
) -> Path:
    """Go from one number to the other in equal steps, rounded."""
    steps = np.arange(frames)
    path: np.ndarray = first[:, None] + ((last - first)[:, None] * steps * 2 + frames - 1) // (
        2 * (frames - 1)
    )
    return path


def _pushed(rng: np.random.Generator, count: int, frames: int, side: int) -> Track:
    """Go from left to right by a quarter of the picture or more, and a little up or down."""
    size = rng.integers(side * 11 // 32, side // 2, size=count)
    free = side - size
    travel = rng.integers(side // 4, free + 1)
    left = rng.integers(free - travel + 1)
    top = rng.integers(free + 1)
    drift = rng.integers(-(side // 16), side // 16 + 1, size=count)
    sinking = _between(top, np.clip(top + drift, 0, free), frames)
    return Track(_between(size, size, frames), sinking, _between(left, left + travel, frames))


def _lifted(rng: np.random.Generator, count: int, frames: int, side: int) -> Track:
    """Go up, likewise."""
    size, across, along = _pushed(rng, count, frames, side)
    return Track(size, side - size - along, across)


def _approaching(rng: np.random.Generator, count: int, frames: int, side: int) -> Track:
    """Grow by a quarter of the picture or more, round a point that stays."""
    first = rng.integers(side // 4, side * 11 // 32, size=count)
    last = rng.integers(side // 2, side * 21 // 32, size=count)
    top, left = rng.integers(side - last + 1, size=(2, count))
    size = _between(first, last, frames)
    inset = (last[:, None] - size) // 2
    return Track(size, top[:, None] + inset, left[:, None] + inset)


def _resting(rng: np.random.Generator, count: int, frames: int, side: int) -> Track:
    """Stay where it is."""
    size = rng.integers(side * 11 // 32, side // 2, size=count)
    top, left = rng.integers(side - size + 1, size=(2, count))
    return Track(*(_between(fixed, fixed, frames) for fixed in (size, top, left)))


_TRACKS = (_pushed, _lifted, _approaching, _resting)  # one for each pair of classes
_COVERING = 3


def _cover(
    rng: np.random.Generator,
    shown: UInt8[np.ndarray, "count frames side side"],
    track: Track,
    textures: Textures,
) -> UInt8[np.ndarray, "count frames side side"]:
    """Slide a photograph of half the picture's side over the scans, from any of the four sides."""
    count, frames, side, _ = shown.shape
    cover = side // 2
    last = [
        corner[:, 0] - rng.integers(cover - track.side[:, 0] + 1)
        for corner in (track.top, track.left)
    ]
    axis, sign = rng.integers(2, size=count), rng.choice((-cover, cover), count)
    top, left = (
        _between(end + np.where(axis == index, sign, 0), end, frames)
        for index, end in enumerate(last)
    )
    margin = side  # the cover may start outside the picture
    room = np.pad(shown.reshape(-1, side, side), ((0, 0), (margin, margin), (margin, margin)))
    patches = np.repeat(dimmed(draw_windows(rng, textures, cover, count)), frames, axis=0)
    paste(room, patches, top.ravel() + margin, left.ravel() + margin)
    return room[:, margin:-margin, margin:-margin].reshape(shown.shape)


def compose_motion(
    rng: np.random.Generator, scans: Scans, textures: Textures, count: int, frames: int, side: int
) -> tuple[Clips, Labels]:
    """Compose clips of one handwritten digit that moves, grows or is covered.

    The digit lies over a window of a photograph at 0.6 of its brightness that trembles by a pixel,
    and shows where it is brighter; the cover is another window. Half of the clips are the other
    half played backwards, so what tells the two classes of a pair apart is the order of the frames
    and nothing else: whoever ignores it names half of the clips at best.

    Args:
        rng: Source of all that is drawn.
        scans: Digits to show; their values do not matter.
        textures: Photographs for backgrounds and covers, larger than ``side + 2`` pixels.
        count: Number of clips; an odd one leaves one clip without its reversal.
        frames: Frames of a clip, at least 2.
        side: Height and width of the frames, at least 16 pixels; all lengths grow with it.

    Returns:
        Clips [count, frames, 1, side, side] and their classes [count], indices of `TEMPLATES`.

    Raises:
        ValueError: `frames` or `side` is too small, or `side` too large for the photographs.
    """
    room = min(textures.shape[1:]) - 2 * JITTER
    if frames < 2 or not 16 <= side <= room:
        raise ValueError(f"{frames=} must be at least 2, and {side=} from 16 to {room}")
    originals = (count + 1) // 2
    kinds = rng.permutation(np.arange(originals) % len(_TRACKS))
    windows = dimmed(draw_windows(rng, textures, side + 2 * JITTER, originals))
    at = rng.integers(2 * JITTER + 1, size=(2, originals, frames, 1, 1))
    rows, columns = at[0] + np.arange(side)[:, None], at[1] + np.arange(side)
    shown = windows[np.arange(originals)[:, None, None, None], rows, columns]
    digits = rng.integers(len(scans), size=originals)
    for kind, draw_track in enumerate(_TRACKS):
        own = np.flatnonzero(kinds == kind)
        track = draw_track(rng, len(own), frames, side)
        ink = np.zeros((len(own) * frames, side, side), np.uint8)
        which = np.repeat(digits[own], frames)
        paste_scans(ink, scans, which, *(path.ravel() for path in track))
        part = np.maximum(shown[own], ink.reshape(-1, frames, side, side))
        shown[own] = _cover(rng, part, track, textures) if kind == _COVERING else part
    clips = np.concatenate([shown, shown[:, ::-1]])[:, :, None]
    labels = np.concatenate([2 * kinds, 2 * kinds + 1]).astype(np.uint8)
    # Without the reversal of the last clip where the count is odd.
    order = rng.permutation(count)
    return clips[order], labels[order]
