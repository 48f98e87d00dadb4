"""Positions of tokens on grids of two or three axes."""

import torch
from jaxtyping import Int
from torch import Tensor

from attnlab.operators.base import Grid


def token_coordinates(grid: Grid, device: torch.device | None = None) -> Int[Tensor, "tokens axes"]:
    """Return the position of every token of a grid, in row-major order."""
    axes = [torch.arange(size, device=device) for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def ravel(coordinates: Int[Tensor, "*places axes"], grid: Grid) -> Int[Tensor, "*places"]:
    """Return the row-major index of every position on a grid."""
    index = coordinates[..., 0]
    for axis, size in enumerate(grid[1:], 1):
        index = index * size + coordinates[..., axis]
    return index
