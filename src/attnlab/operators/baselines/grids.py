"""What the baseline operators share about token grids of two or three axes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnlab.operators.base import Grid


def strided(x: Float[Tensor, "batch *grid dim"], stride: int) -> Float[Tensor, "batch *out dim"]:
    """Keep the tokens at ``stride * i`` on every axis."""
    return x[:, *[slice(None, None, stride)] * (x.ndim - 2)]


def token_coordinates(grid: Grid, device: torch.device | None = None) -> Int[Tensor, "tokens axes"]:
    """Return the position of every token of a grid, in row-major order."""
    axes = [torch.arange(size, device=device) for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
