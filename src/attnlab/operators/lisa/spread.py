"""Tables spread so that a row of queries finds the weights of all keys side by side.

Queries are taken row by row of the grid's first axis. A table is spread over the other axes only,
so that for the queries of one row the weights of all keys lie side by side in memory, and those of
the next row one key row further on: H times less than Toeplitz matrices, which are built (one row
of them) only where they are small.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid

_BLOCK_BYTES = 2**21  # of N x N arrays, at once: they are read back from the second-level cache
_SPREAD_BYTES = 2**25  # of a table spread over all axes but the first

Tables = Float[Tensor, "rows rpes *offsets"]
At = tuple[slice, int, int, slice]  # samples, head, row, queries in the row


class Geometry(NamedTuple):
    """A grid as rows of its first axis, or as one row if its Toeplitz matrices are small.

    Attributes:
        grid: The axes, the first a dummy of length 1 for a grid in one row.
        stride: Step between queries.
    """

    grid: Grid
    stride: int

    @classmethod
    def of(cls, tables: Tables, grid: Grid, stride: int) -> "Geometry":
        """Choose for tables of this number and type."""
        one = cls((1, *grid), stride)
        matrices = math.prod(tables.shape[:2]) * one.inner * one.keys * tables.element_size()
        return one if matrices <= _BLOCK_BYTES else cls(grid, stride)

    @property
    def rows(self) -> int:
        """Number of rows of queries."""
        return self.places(0)

    @property
    def inner(self) -> int:
        """Number of queries in a row."""
        return math.prod(self.places(axis) for axis in range(1, len(self.grid)))

    @property
    def keys(self) -> int:
        """Number of keys in a row."""
        return math.prod(self.grid[1:])

    def by_row(self, queries: Tensor) -> Tensor:
        """Return ``[batch, rows, queries, ...]`` with the queries row by row."""
        return torch.unflatten(queries, 2, (self.rows, self.inner))

    def places(self, axis: int) -> int:
        """Return how many queries there are along an axis."""
        return -(-self.grid[axis] // self.stride)

    def reach(self, axis: int, first: int, count: int) -> tuple[int, int]:
        """Return where `count` queries from `first` look on an axis of a table read backwards."""
        size = self.grid[axis]
        return size - 1 - (first + count - 1) * self.stride, (count - 1) * self.stride + size


class Part(NamedTuple):
    """Tables spread for the queries at some places of the second axis.

    Attributes:
        spread: ``[rows, inner queries, rpes, offsets of the first axis * inner keys]``.
        first: The first of the places.
        many: Number of places.
    """

    spread: Tensor
    first: int
    many: int

    def blocks(
        self, geometry: Geometry, batch: int
    ) -> Iterator[tuple[At, tuple[int, slice, slice, slice]]]:
        """Yield where in the batch a block of the kernel is, and where in `spread` its weights."""
        each = geometry.inner // geometry.places(1)
        queries = slice(self.first * each, (self.first + self.many) * each)
        rows, inner, keys = len(self.spread), self.spread.shape[1], math.prod(geometry.grid)
        most = max(1, _BLOCK_BYTES // (inner * keys * self.spread.element_size()))
        for head, row in itertools.product(range(rows), range(geometry.rows)):
            start = (geometry.grid[0] - 1 - row * geometry.stride) * geometry.keys
            seen = head, slice(None), slice(None), slice(start, start + keys)
            for first in range(0, batch, most):
                yield (slice(first, min(first + most, batch)), head, row, queries), seen


def spread(tables: Tables, geometry: Geometry) -> Iterator[Part]:
    """Yield tables spread over all axes but the first, for some places of the second at a time."""
    axes = range(2, len(geometry.grid) + 2)
    tables = tables if tables.ndim == len(axes) + 2 else tables.unsqueeze(2)
    backwards = tables.flip(tuple(axes))
    places = geometry.places(1)
    each = geometry.inner // places * geometry.keys * math.prod(tables.shape[:3])
    most = max(1, _SPREAD_BYTES // (each * tables.element_size()))
    for first in range(0, places, most):
        count = min(most, places - first)
        part = backwards.narrow(3, *geometry.reach(1, first, count))
        for axis in axes[2:]:
            part = part.narrow(axis, *geometry.reach(axis - 2, 0, geometry.places(axis - 2)))
        for axis in axes[1:]:
            part = part.unfold(axis, geometry.grid[axis - 2], geometry.stride)
        part = part.flip(tuple(axes[1:])).movedim((1, 2), (axes[-1] - 1, axes[-1]))
        part = part.flatten(axes[-1]).flatten(1, axes[-1] - 2)
        yield Part(part.contiguous(), first, count)


def gather(grad: Tensor, part: Part, geometry: Geometry, tables: Tables) -> None:
    """Add the gradient of a part, shaped like its `spread`, to that of the tables."""
    axes = range(2, len(geometry.grid) + 2)
    tables = tables if tables.ndim == len(axes) + 2 else tables.unsqueeze(2)
    queries = [part.many, *(geometry.places(axis - 2) for axis in axes[2:])]
    grad = torch.unflatten(grad, -1, (tables.shape[2], *geometry.grid[1:]))
    grad = torch.unflatten(grad, 1, queries)
    grad = grad.movedim((axes[-1] - 1, axes[-1]), (1, 2)).flip(tuple(axes[1:]))
    begins = [0]
    for axis in reversed(axes[1:]):
        place = (part.first, part.many) if axis == 3 else (0, geometry.places(axis - 2))
        begin, length = geometry.reach(axis - 2, *place)
        shape = [*grad.shape[:-1]]
        shape[axis] = length
        grad = torch.ops.aten.unfold_backward(
            grad, shape, axis, geometry.grid[axis - 2], geometry.stride
        )
        begins.insert(1, begin)
    seen = tables
    for axis, begin in zip(axes, begins, strict=True):
        # What is read backwards begins as far from the end.
        seen = seen.narrow(axis, seen.shape[axis] - begin - grad.shape[axis], grad.shape[axis])
    seen += grad.flip(tuple(axes))
