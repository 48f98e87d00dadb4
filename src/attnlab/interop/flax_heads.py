"""The classification heads of the official QnA code, told from their arrays where they differ."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from attnlab.interop.flax_arrays import HEAD, square
from attnlab.operators.base import Grid
from attnlab.tasks.heads import MeanPool, PoolFactory, QnAMeanPool, QnAPool

Head = Literal["gap", "qna", "qna+mean"]

HEADS: dict[Head, type[MeanPool] | type[QnAPool]] = {
    "gap": MeanPool,
    "qna": QnAPool,
    "qna+mean": QnAMeanPool,
}
OFFICIAL_HEADS: dict[str, Head] = {"gap": "gap", "qnav1": "qna", "qnav2": "qna+mean"}
"""The value of the official option `classification_head_type` to the head's name here."""

_TABLE = f"{HEAD}/FusedKQnA_0/rpe_bias"
_LOGITS = f"{HEAD}/head_logits/kernel"


def named_head(arrays: Mapping[str, Any]) -> Head:
    """Return the head of a network whose configuration is not known.

    Raises:
        ValueError: The arrays hold a QnA head: with the mean or without it, they are the same.
    """
    if _TABLE in arrays:
        raise ValueError("the arrays fit both head='qna' and head='qna+mean': one must be chosen")
    return "gap"


def stored_classes(arrays: Mapping[str, Any]) -> int:
    """Return the number of logits that the arrays hold.

    Raises:
        ValueError: The arrays hold no matrix of logits.
    """
    shape: tuple[int, ...] = np.shape(arrays[_LOGITS]) if _LOGITS in arrays else ()
    if len(shape) != 2:
        raise ValueError(f"missing arrays: {_LOGITS}, a matrix")
    return int(shape[1])


def head_factory(head: Head, heads: int, arrays: Mapping[str, Any] | None) -> PoolFactory:
    """Return the factory of a head's pool.

    Args:
        head: Name of the head.
        heads: Attention heads, where it has any.
        arrays: Official arrays, whose table sizes a QnA head; None leaves that to the backbone.
    """
    pool = HEADS[head]
    if not issubclass(pool, QnAPool):
        return pool
    kept = arrays if arrays is not None and _TABLE in arrays else {_TABLE: ()}
    stored: tuple[int, ...] = np.shape(kept[_TABLE])
    if len(stored) != 2:
        return functools.partial(pool, heads=heads)

    def build(dim: int, grid: Grid) -> QnAPool:
        return pool(dim, square(stored[0]), heads=heads)

    return build
