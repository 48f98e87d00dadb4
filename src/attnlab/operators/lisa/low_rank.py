"""The operator with separable tables, O(rank R N (H + W)): nothing but matrix products.

P_r(dy, dx) = sum_i u_ri(dy) v_ri(dx) makes T(P_r) a sum of Kronecker products of Toeplitz matrices
of one axis, so a convolution is one thin product per axis. Learnt so, it is another operator than
`fft`: its tables have no more than `rank` terms. `factorise` fits given tables, and `bounds` says
how far off the operator then is.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial, reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa import tables as rpe
from attnlab.operators.lisa.bounds import operator_norm_bound
from attnlab.operators.lisa.kernels import ACTIVATIONS, pattern_scores

Factors = Sequence[Float[Tensor, "rows rpes rank _"]]
"""One function of the offset per axis and term: (u, v), over three axes (t, u, v)."""
Encoding = Sequence[Float[Tensor, "groups rpes encoding_rank _"]]
Composing = Sequence[Float[Tensor, "heads rpes rank _"]]
Packed = Float[Tensor, "rows rpes rank offsets"]
"""The factors of all axes side by side: one parameter, whatever the number of axes."""
Tables = Float[Tensor, "rows rpes *offsets"]
Columns = Float[Tensor, "rows tokens columns"]
QueryFeatures = Float[Tensor, "batch heads queries features"]
KeyFeatures = Float[Tensor, "batch groups keys features"]
Values = Float[Tensor, "batch heads keys value_dim"]
Prior = Float[Tensor, "batch heads queries rpes"]
Output = Float[Tensor, "batch heads queries value_dim"]

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
    terms, *others = factors
    for factor in others:
        ones = [1] * (terms.ndim - 3)
        terms = terms.unsqueeze(-1) * torch.unflatten(factor, 2, (factor.shape[2], *ones))
    return terms.sum(2)


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


def convolve(
    maps: Float[Tensor, "rows keys columns"], factors: Factors, grid: Grid, stride: int = 1
) -> Iterator[Float[Tensor, "rows queries columns"]]:
    """Yield T(P_r) x for r = 0..R-1: sum_m P_r[p(n) - p(m)] x[m] at the output tokens n.

    Tokens come before columns (samples and channels together), so that the product along the first
    axis is one matrix product per row, and that along the last sums over the terms as well.

    Args:
        maps: x; prod(grid) = keys.
        factors: Factors of P for `grid`.
        grid: Size of the token grid.
        stride: Step between the tokens n.
    """
    matrices = [
        torch.unflatten(rpe.toeplitz(factor.flatten(1, 2), (size,), stride), 1, factor.shape[1:3])
        for factor, size in zip(factors, grid, strict=True)
    ]
    for of_table in zip(*(matrix.unbind(1) for matrix in matrices), strict=True):
        yield _apply(of_table, maps)


def _apply(
    matrices: Sequence[Float[Tensor, "rows rank _ _"]], maps: Float[Tensor, "rows keys columns"]
) -> Float[Tensor, "rows queries columns"]:
    """Multiply by sum_i M_i1 x M_i2 (x M_i3), one axis after the other, the first one first."""
    first, *others, last = matrices
    columns = maps.shape[-1]
    # [rows, (out, rank), in] @ [rows, in, rest]: the terms end up beside the next axis.
    lines = torch.unflatten(maps, 1, (first.shape[-1], -1)).flatten(2)
    y = first.transpose(1, 2).flatten(1, 2) @ lines
    y = torch.unflatten(y, 1, (-1, first.shape[1]))
    for matrix in others:
        y = matrix.unsqueeze(1) @ torch.unflatten(y, 3, (matrix.shape[-1], -1))
        y = y.transpose(2, 3).flatten(1, 2)
    y = torch.unflatten(y.flatten(2), 2, (-1, columns))
    return (last.transpose(1, 2).flatten(2).unsqueeze(1) @ y).flatten(1, 2)


def _columns(x: Float[Tensor, "batch rows tokens channels"]) -> Columns:
    return x.permute(1, 2, 0, 3).flatten(2)


def _compose(scores: Prior, v: Values, composing: Composing, grid: Grid, stride: int) -> Output:
    """Weight the convolved values by the scores and sum them."""
    weights = scores.permute(3, 1, 2, 0).unsqueeze(-1)
    maps = convolve(_columns(v), composing, grid, stride)
    terms = (
        weight * torch.unflatten(y, -1, (v.shape[0], -1))
        for weight, y in zip(weights.unbind(0), maps, strict=True)
    )
    return reduce(torch.add, terms).permute(2, 0, 1, 3)


def pattern(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    encoding: Encoding,
    composing: Composing,
    activation: str = "identity",
    *,
    grid: Grid,
    stride: int = 1,
) -> Output:
    """Return sum_m (sum_r s_nr P_r[p(n) - p(m)]) v_m, with s as in `pattern_scores`.

    Args:
        phi_q: Query features, at the output tokens.
        phi_k: Key features, at all tokens.
        v: Values, at all tokens.
        prior: q_n . w_r, added to the scores.
        encoding: Factors of E.
        composing: Factors of P.
        activation: Key of `ACTIVATIONS`.
        grid: Size of the token grid.
        stride: Step between output tokens.
    """
    maps = torch.stack(list(convolve(_columns(phi_k), encoding, grid, stride)))
    encoded_keys = torch.unflatten(maps, -1, (phi_k.shape[0], -1)).permute(3, 1, 0, 4, 2)
    scores = pattern_scores(phi_q, encoded_keys, prior, activation)
    return _compose(scores, v, composing, grid, stride)


def mask(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    composing: Composing,
    activation: str = "identity",
    *,
    grid: Grid,
    stride: int = 1,
) -> Output:
    """Return sum_m a_nm (sum_r f(prior_nr) P_r[p(n) - p(m)]) v_m; arguments as in `pattern`.

    As in `spectral.mask`, a sum over the features: values weighted by phi_k, composed, weighted
    by phi_q.
    """
    scores = ACTIVATIONS[activation](prior)
    phi_k = phi_k.repeat_interleave(v.shape[1] // phi_k.shape[1], dim=1)
    terms = (
        query.unsqueeze(-1) * _compose(scores, key.unsqueeze(-1) * v, composing, grid, stride)
        for query, key in zip(phi_q.unbind(-1), phi_k.unbind(-1), strict=True)
    )
    output: Tensor = reduce(torch.add, terms)
    return output
