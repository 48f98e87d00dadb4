"""The part of a training set that is held out for validation."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64

SelectOn = Literal["held_out", "official"]
"""What validation reads: a part of the training set, or the official validation set."""


def check_selection(select_on: SelectOn, val_size: int | None) -> None:
    """Check the arguments by which data modules choose their validation samples.

    Args:
        select_on: Where they come from.
        val_size: How many are held out; a share that the data module knows when None.

    Raises:
        ValueError: `select_on` is unknown, or `val_size` below 1.
    """
    if val_size is not None and val_size < 1:
        raise ValueError(f"{val_size=} must be at least 1")
    if select_on not in get_args(SelectOn):
        raise ValueError(f"{select_on=} must be one of {', '.join(get_args(SelectOn))}")


def hold_out(
    labels: Int64[np.ndarray, " samples"], size: int, seed: int
) -> tuple[Int64[np.ndarray, " rest"], Int64[np.ndarray, " held_out"]]:
    """Split sample indices into those to train on and those to select on, class by class.

    Every class gives its share of `size`, rounded such that the sum is `size` exactly: the classes
    whose shares have the largest remainders give one more. A class keeps at least one sample.

    Args:
        labels: Class indices of all samples.
        size: Samples to hold out.
        seed: Determines which; the same whatever the seed of the run.

    Returns:
        The indices to train on and those held out, both increasing.

    Raises:
        ValueError: `size` is not positive, or leaves a class without a sample.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if not 0 < size <= len(labels) - len(classes):
        raise ValueError(
            f"{size} samples cannot be held out for validation: of {len(labels)} samples in "
            f"{len(classes)} classes, 1 to {len(labels) - len(classes)} can"
        )
    share = counts * (size / len(labels))
    taken = np.minimum(share.astype(np.int64), counts - 1)
    while missing := size - int(taken.sum()):
        able = np.flatnonzero(taken < counts - 1)
        first = able[np.argsort((taken - share)[able], kind="stable")][:missing]
        taken[first] += 1
    # Shuffled once; in that order a class's first samples are held out.
    order = np.random.default_rng([seed, len(labels)]).permutation(len(labels))
    order = order[np.argsort(np.searchsorted(classes, labels[order]), kind="stable")]
    first = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - np.repeat(first, counts)
    chosen = rank < np.repeat(taken, counts)
    return np.sort(order[~chosen]), np.sort(order[chosen])
