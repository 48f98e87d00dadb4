"""Inputs of the dense sums, and what they are in N x N arrays."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from attnlab.operators.lisa.blocked import Inputs
from attnlab.operators.lisa.reference import at_offsets

BATCH, HEADS, GROUPS, RPES, VALUE_DIM, FEATURES = 3, 4, 2, 3, 7, 5
GEOMETRIES = [
    ((7, 5), 1),
    ((5, 3), 2),
    ((1, 11), 3),
    ((3, 5, 2), 1),
    ((3, 5, 7), 2),
    ((2, 3, 5), 3),
]


class Problem(NamedTuple):
    """Query features, key features, both tables, scores, values, and where they are."""

    phi_q: Tensor
    phi_k: Tensor
    encoding: Tensor
    composing: Tensor
    scores: Tensor
    values: Tensor
    grid: tuple[int, ...]
    stride: int

    def inputs(self, *, masked: bool) -> Inputs:
        features = (self.phi_q, self.phi_k) if masked else ()
        return Inputs(self.scores, self.values, self.composing, *features)

    def encoded(self) -> Tensor:
        """Return sum_m a_nm E_r[p(n) - p(m)]."""
        shared = self.phi_q.shape[1] // self.phi_k.shape[1]
        matrices = at_offsets(self.encoding, self.grid, self.stride)
        return torch.einsum(
            "bhnm,hrnm->bhnr", self.attention(), matrices.repeat_interleave(shared, 0)
        )

    def attention(self) -> Tensor:
        shared = self.phi_q.shape[1] // self.phi_k.shape[1]
        return self.phi_q @ self.phi_k.repeat_interleave(shared, 1).mT

    def mixed(self, *, masked: bool) -> Tensor:
        """Return sum_m kappa_nm v_m."""
        matrices = at_offsets(self.composing, self.grid, self.stride)
        kappa = torch.einsum("bhnr,hrnm->bhnm", self.scores, matrices)
        return (kappa * self.attention() if masked else kappa) @ self.values


def problem(grid, stride, *, batch=BATCH, dtype=torch.float64, **sizes) -> Problem:
    """Draw the inputs; `sizes` may give heads, groups, rpes, value_dim and features."""
    generator = torch.Generator().manual_seed(31)
    heads, groups = sizes.get("heads", HEADS), sizes.get("groups", GROUPS)
    rpes, features = sizes.get("rpes", RPES), sizes.get("features", FEATURES)

    def draw(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return drawn.to(dtype).requires_grad_()

    queries, keys = math.prod(-(-n // stride) for n in grid), math.prod(grid)
    offsets = [2 * n - 1 for n in grid]
    return Problem(
        draw(batch, heads, queries, features),
        draw(batch, groups, keys, features),
        draw(groups, rpes, *offsets),
        draw(heads, rpes, *offsets),
        draw(batch, heads, queries, rpes),
        draw(batch, heads, keys, sizes.get("value_dim", VALUE_DIM)),
        grid,
        stride,
    )


def cotangent(like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(37)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)


def worst(found, expected) -> float:
    """Return the largest error, relative to the largest value of its tensor."""
    return max(
        ((one.double() - other.double()).abs().max() / other.double().abs().max()).item()
        for one, other in zip(found, expected, strict=True)
    )
