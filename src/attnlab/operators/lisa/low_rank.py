"""The operator with separable tables, O(rank R N (H + W)): nothing but matrix products.

P_r(dy, dx) = sum_i u_ri(dy) v_ri(dx) makes T(P_r) a sum of Kronecker products of Toeplitz matrices
of one axis, so a convolution is one thin product per axis. Learnt so, it is another operator than
`fft`: its tables have no more than `rank` terms. `factors.factorise` fits given tables and bounds
how far off the operator then is.
"""

from collections.abc import Iterator, Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from attnlab.operators.base import Grid
from attnlab.operators.lisa import tables as rpe
from attnlab.operators.lisa.factors import Factors
from attnlab.operators.lisa.kernels import ACTIVATIONS, pattern_scores
from attnlab.operators.lisa.shapes import KeyFeatures, Output, Prior, QueryFeatures, Values
from attnlab.operators.lisa.spectral import KEPT_BYTES

Encoding = Sequence[Float[Tensor, "groups rpes encoding_rank _"]]
Composing = Sequence[Float[Tensor, "heads rpes rank _"]]
Columns = Float[Tensor, "rows tokens columns"]


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
    for matrices in _matrices(factors, grid, stride):
        yield _apply(matrices, maps)


def _matrices(factors: Factors, grid: Grid, stride: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield the matrices of each table, one per axis: [rows, rank, out, in]."""
    matrices = [
        torch.unflatten(rpe.toeplitz(factor.flatten(1, 2), (size,), stride), 1, factor.shape[1:3])
        for factor, size in zip(factors, grid, strict=True)
    ]
    return zip(*(matrix.unbind(1) for matrix in matrices), strict=True)


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
    y = torch.unflatten(y.flatten(2), 2, (last.shape[1] * last.shape[-1], columns))
    return (last.transpose(1, 2).flatten(2).unsqueeze(1) @ y).flatten(1, 2)


def _columns(x: Float[Tensor, "batch rows tokens channels"]) -> Columns:
    return x.permute(1, 2, 0, 3).flatten(2)


def _weighted(
    weights: Float[Tensor, "heads queries batch 1"],
    maps: Columns,
    value_dim: int,
    matrices: Sequence[Tensor],
) -> Float[Tensor, "heads queries batch {value_dim}"]:
    return weights * torch.unflatten(_apply(matrices, maps), -1, (weights.shape[2], value_dim))


def _compose(
    scores: Prior, v: Values, composing: Composing, grid: Grid, stride: int, times: int = 1
) -> Output:
    """Weight the convolved values by the scores and sum them; one of as many `times` as said."""
    maps, weights = _columns(v), scores.permute(3, 1, 2, 0).unsqueeze(-1)
    # What a backward is given: the maps between two axes and the convolved ones, of every table.
    kept = times * weights.shape[0] * (composing[0].shape[2] + 1) * maps.numel() * maps.itemsize
    recompute = torch.is_grad_enabled() and kept > KEPT_BYTES
    term = _recomputed if recompute else _weighted
    terms = (
        term(weight, maps, v.shape[-1], matrices)
        for weight, matrices in zip(weights, _matrices(composing, grid, stride), strict=True)
    )
    return reduce(torch.add, terms).permute(2, 0, 1, 3)


def _recomputed(
    weights: Tensor, maps: Columns, value_dim: int, matrices: Sequence[Tensor]
) -> Tensor:
    """Compute `_weighted` again in the backward rather than keep what it needs there."""
    y: Tensor = checkpoint(
        _weighted, weights, maps, value_dim, matrices, use_reentrant=False, preserve_rng_state=False
    )
    return y


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
    encoded_keys = torch.unflatten(maps, -1, phi_k.shape[::3]).permute(3, 1, 0, 4, 2)
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
        query.unsqueeze(-1)
        * _compose(scores, key.unsqueeze(-1) * v, composing, grid, stride, phi_q.shape[-1])
        for query, key in zip(phi_q.unbind(-1), phi_k.unbind(-1), strict=True)
    )
    output: Tensor = reduce(torch.add, terms)
    return output
