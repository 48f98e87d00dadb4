"""Which frames of a video a network sees: the published rules, as pure functions.

Each maps the number of frames in the video, the number wanted and a source of randomness to
indices; without randomness it gives view `view` of `views`. A video that is shorter than what is
asked of it repeats frames, spread evenly.
"""

from typing import Literal, Protocol, get_args

import numpy as np
from jaxtyping import Int64

Indices = Int64[np.ndarray, " frames"]
Sampling = Literal["pyslowfast", "tsm", "dense"]

WINDOW = 64
"""Frames that dense sampling spans."""


class SamplingRule(Protocol):
    """One of the rules below."""

    def __call__(
        self,
        count: int,
        frames: int,
        rng: np.random.Generator | None,
        view: int = 0,
        views: int = 1,
    ) -> Indices:
        """Return the indices of `frames` frames of a video that has `count`.

        Args:
            count: Frames of the video, at least 1.
            frames: Frames wanted, at least 1.
            rng: Source of randomness in training; None for the fixed views of an evaluation.
            view: Which view, from 0.
            views: Number of views that an evaluation averages.
        """


def _spread(count: int, frames: int) -> Indices:
    return np.round(np.linspace(0, count - 1, frames)).astype(np.int64)


def sample_pyslowfast(
    count: int, frames: int, rng: np.random.Generator | None, view: int = 0, views: int = 1
) -> Indices:
    """Take one frame of each of `frames` equal segments between the first and the last frame.

    PySlowFast's rule for Something-Something-V2: segment i reaches from ``round(s i)`` to
    ``round(s (i + 1))``, ``s = (count - 1) / frames``, both included. Training draws from it, an
    evaluation takes its middle; several views are spaced evenly, as UniFormer spaces them.
    """
    segment = (count - 1) / frames
    edges = np.round(segment * np.arange(frames + 1)).astype(np.int64)
    if rng is not None:
        return rng.integers(edges[:-1], edges[1:], endpoint=True)
    if views == 1:
        return (edges[:-1] + edges[1:]) // 2
    return edges[:-1] + int(segment * (view + 1) / (views + 1))


def sample_tsm(
    count: int, frames: int, rng: np.random.Generator | None, view: int = 0, views: int = 1
) -> Indices:
    """Take one frame of each of `frames` equal segments, as TSN and TSM do.

    Training draws from segments of ``count // frames`` frames, an evaluation takes the middle of
    segments of ``count / frames``. Of two views the second takes their first frames, as TSM's
    "twice sample"; more are spaced evenly from there on. Videos with fewer than `frames` frames
    are spread evenly, where the original repeats their first frame and with it loses the motion.
    """
    if count < frames:
        return _spread(count, frames)
    steps = np.arange(frames)
    if rng is not None:
        length = count // frames
        return steps * length + rng.integers(length, size=frames)
    tick = count / frames
    return (tick * ((0.5 + view / views) % 1) + tick * steps).astype(np.int64)


def sample_dense(
    count: int, frames: int, rng: np.random.Generator | None, view: int = 0, views: int = 1
) -> Indices:
    """Take every ``64 // frames``-th frame from some start, beginning anew at the end (I3D, TSM).

    Training draws the start such that 64 frames fit; several views start at equal distances from
    first to last, a single one in the middle between them. Above 64 frames the stride is 1.
    """
    starts = max(1, count - WINDOW + 1)
    if rng is not None:
        start = int(rng.integers(starts))
    elif views == 1:
        start = (starts - 1) // 2
    else:
        start = int(np.linspace(0, starts - 1, views)[view])
    indices: np.ndarray = (start + np.arange(frames) * max(1, WINDOW // frames)) % count
    return indices


_RULES: dict[Sampling, SamplingRule] = {
    "pyslowfast": sample_pyslowfast,
    "tsm": sample_tsm,
    "dense": sample_dense,
}


def sampling_rule(sampling: Sampling) -> SamplingRule:
    """Return the rule of a name.

    Raises:
        ValueError: There is none.
    """
    if sampling not in _RULES:
        raise ValueError(f"{sampling=} must be one of {', '.join(get_args(Sampling))}")
    return _RULES[sampling]
