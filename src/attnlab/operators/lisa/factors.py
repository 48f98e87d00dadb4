"""Separable tables P(dy, dx) = sum_i u_i(dy) v_i(dx): factors learnt, or fitted to a table."""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa import tables as rpe
from attnlab.operators.lisa.bounds import operator_norm_bound

Factors = Sequence[Float[Tensor, "rows rpes rank _"]]
"""One function of the offset per axis and term: (u, v), over three axes (t, u, v)."""
Packed = Float[Tensor, "rows rpes rank offsets"]
"""The factors of all axes side by side: one parameter, whatever the number of axes."""
Tables = Float[Tensor, "rows rpes *offsets"]

KEPT_BY_THE_CUT = 0.879_63
"""Standard deviation of a standard normal that is cut at two."""


def gaussian_factors(rows: int, rpes: int, rank: int, grid: Grid) -> Packed:
    """Draw packed factors whose tables are as large and as wide as `tables.gaussian_tables`.

    A Gaussian envelope is separable, so each factor is a truncated normal under the envelope of
    its axis. Its standard deviation makes that of a sum of `rank` products the tables' 0.0176.
    """
    std = (KEPT_BY_THE_CUT * 0.02 / math.sqrt(rank)) ** (1 / len(grid)) / KEPT_BY_THE_CUT
    distances = torch.cat([torch.arange(1 - size, size) for size in grid])
    widths = rpe.envelope_widths(rpes, grid)[:, None, None]
    factors = torch.empty(rows, rpes, rank, len(distances))
    torch.nn.init.trunc_normal_(factors, std=std, a=-2 * std, b=2 * std)
    return factors * torch.exp(-distances.square() / (2 * widths.square()))


def pack(factors: Factors) -> Packed:
    """Join factors along their offsets, the first axis first."""
    return torch.cat(list(factors), -1)


def unpack(packed: Packed, grid: Grid) -> Factors:
    """Split packed factors for `grid`, 2n - 1 offsets an axis."""
    factors: Factors = torch.split(packed, [2 * size - 1 for size in grid], -1)
    return factors


def full_tables(factors: Factors) -> Tables:
    """Return the tables sum_i u_i(dy) v_i(dx) that the factors stand for."""
    terms, *others, last = factors
    for factor in others:
        ones = [1] * (terms.ndim - 3)
        terms = terms.unsqueeze(-1) * torch.unflatten(factor, 2, (factor.shape[2], *ones))
    return torch.einsum("grk...,grkx->gr...x", terms, last)


def resize(factors: Factors, old: Grid, new: Grid) -> Factors:
    """Interpolate factors from one grid to another: `tables.resize` of the tables, axis by axis."""
    lines = (factor.flatten(1, 2) for factor in factors)
    return [
        torch.unflatten(
            rpe.resize(line, (size,), (new_size,), periodic=False), 1, factor.shape[1:3]
        )
        for line, factor, size, new_size in zip(lines, factors, old, new, strict=True)
    ]


def copy_over_time(factors: Factors, frames: int) -> Factors:
    """Repeat the tables for every offset in time of `frames` frames: a factor of ones in front."""
    first = factors[0]
    return [first.new_ones(*first.shape[:3], 2 * frames - 1), *factors]


def separable_terms(tables: Tables) -> Factors:
    """Split tables into separable terms that add up to them exactly, the largest first.

    Over two axes by the singular value decomposition: its first k terms are the best table of rank
    k in the Frobenius norm (Eckart and Young, 1936). Over three the decomposition of time against
    space, whose spatial vectors are decomposed again: the terms are orthogonal, but k of them are
    not the best k.

    Returns:
        Factors with all terms; the axes share a term's singular value evenly.
    """
    weights, factors = _decompose(tables)
    shares = weights.pow(1 / len(factors)).unsqueeze(-1)
    return [shares * factor for factor in factors]


def _decompose(
    tables: Tables,
) -> tuple[Float[Tensor, "rows rpes rank"], list[Float[Tensor, "rows rpes rank _"]]]:
    """Return the weights of orthogonal separable terms, falling, and their unit factors."""
    left, weights, right = torch.linalg.svd(tables.flatten(3), full_matrices=False)
    if tables.ndim == 4:
        return weights, [left.mT, right]
    shape = weights.shape[1:]
    inner_weights, inner = _decompose(torch.unflatten(right, -1, tables.shape[3:]).flatten(1, 2))
    repeats = inner_weights.shape[2]
    factors = [left.mT.repeat_interleave(repeats, 2)]
    factors += [torch.unflatten(factor, 1, shape).flatten(2, 3) for factor in inner]
    weights = (weights.unsqueeze(-1) * torch.unflatten(inner_weights, 1, shape)).flatten(2)
    order = weights.argsort(2, descending=True)
    sort = partial(torch.take_along_dim, indices=order.unsqueeze(-1), dim=2)
    return weights.take_along_dim(order, 2), [sort(factor) for factor in factors]


def factorise(tables: Tables, rank: int) -> tuple[Factors, Float[Tensor, "rows rpes"]]:
    """Approximate full tables by the first `rank` of their separable terms.

    Returns:
        The factors, the last of them zero where the tables have fewer terms, and per table a bound
        on ||T(P) - T(P~)||_2, see `bounds.operator_norm_bound`.
    """
    if rank < 1:
        raise ValueError(f"{rank=} must be at least 1")
    grid = tuple((offsets + 1) // 2 for offsets in tables.shape[2:])
    terms = separable_terms(tables.detach())
    missing = max(0, rank - terms[0].shape[2])
    factors = [F.pad(factor[:, :, :rank], (0, 0, 0, missing)) for factor in terms]
    return factors, operator_norm_bound(tables.detach() - full_tables(factors), grid)
