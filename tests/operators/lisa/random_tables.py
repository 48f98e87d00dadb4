"""Random tables and factors for tests of separable tables and of bounds."""

import torch
from torch import Tensor

from attnlab.operators.lisa.tables import toeplitz

ROWS, RPES, RANK = 2, 3, 4
Grid = tuple[int, ...]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def random_tables(grid: Grid) -> Tensor:
    return random(ROWS, RPES, *(2 * size - 1 for size in grid))


def random_factors(grid: Grid, rows: int = ROWS, rank: int = RANK) -> list[Tensor]:
    packed = random(rows, RPES, rank, sum(2 * size - 1 for size in grid))
    return list(packed.split([2 * size - 1 for size in grid], -1))


def spectral_norm(tables: Tensor, grid: Grid) -> Tensor:
    """Return ||T(P)||_2 of every table, of the dense matrix."""
    return torch.linalg.matrix_norm(toeplitz(tables, grid), 2)
