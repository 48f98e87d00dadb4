"""Measures of redundancy in the kernels of token mixers: rows kappa_n, one per query token.

A kernel is ``kappa[head, query, key]``, see `TokenMixer.token_weights`. Rows that are zero have no
direction and no distribution; they are left out of every mean. A mean over nothing is NaN, and so
is every measure of what is not finite.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.grids import ravel, token_coordinates


def unit_rows(
    kappa: Float[Tensor, "*heads queries keys"],
) -> tuple[Float[Tensor, "*heads queries keys"], Bool[Tensor, "*heads queries"]]:
    """Return rows of norm 1, zero ones as they are, and which rows are not zero."""
    norms = kappa.norm(dim=-1)
    known = norms != 0
    return kappa / torch.where(known, norms, 1).unsqueeze(-1), known


def pooled_rows(
    kappa: Float[Tensor, "heads queries keys"],
) -> tuple[Float[Tensor, "queries keys"], Float[Tensor, " queries"]]:
    """Return the sum over heads of each query's unit rows, and of how many heads it is."""
    units, known = unit_rows(kappa)
    return units.sum(0), known.sum(0).to(kappa.dtype)


def similarity_of_heads(kappa: Float[Tensor, "heads queries keys"]) -> float:
    """Return the cosine between the rows of two heads at one query, over all pairs and queries."""
    total, count = pooled_rows(kappa)
    pairs = count * (count - 1)
    return _mean((total.square().sum(-1) - count)[pairs > 0] / pairs[pairs > 0])


def similarity_of_layers(
    first: tuple[Float[Tensor, "*#samples queries keys"], Float[Tensor, "*#samples queries"]],
    second: tuple[Float[Tensor, "*#samples queries keys"], Float[Tensor, "*#samples queries"]],
) -> float:
    """Return the cosine between rows of two layers at one query, over all pairs of heads.

    Heads have no order that two layers share, so none is matched with another: every head of the
    one layer is compared with every head of the other. That is the same mean as within a layer
    (`similarity_of_heads`).

    Args:
        first: What `pooled_rows` gives for one layer.
        second: The same for the other, of the same queries and keys. One sample stands for all
            where no sample changes a kernel.
    """
    (a, a_count), (b, b_count) = first, second
    pairs = a_count * b_count
    return _mean((a * b).sum(-1)[pairs > 0] / pairs[pairs > 0])


def similarity_of_queries(kappa: Float[Tensor, "heads queries keys"]) -> Float[Tensor, " heads"]:
    """Return the cosine between the rows of two queries, as they stand, over all pairs.

    It is 1 where all tokens attend to the same tokens.
    """
    units, known = unit_rows(kappa)
    count = known.sum(-1)
    pairs = count * (count - 1)
    return (units.sum(1).square().sum(-1) - count) / torch.where(pairs > 0, pairs, torch.nan)


def relative_similarity_of_queries(
    kappa: Float[Tensor, "heads queries keys"],
    queries: Int[Tensor, " queries"],
    grid: Grid,
    out_grid: Grid,
    stride: int,
) -> Float[Tensor, " heads"]:
    """Return the cosine between the rows of two queries, each seen from its own place.

    Two rows are compared on the offsets ``p(m) - p(n)`` at which both have a key, and a pair of
    queries counts by how many those are. It is 1 for a convolution: all tokens attend alike.

    Args:
        kappa: The kernel.
        queries: Row-major indices of its output tokens.
        grid: Grid of the input tokens.
        out_grid: Grid of the output tokens.
        stride: Step between output tokens.
    """
    at = stride * token_coordinates(out_grid)[queries]
    offsets = token_coordinates(grid) - at[:, None]
    low = offsets.amin((0, 1))
    sizes = (offsets.amax((0, 1)) - low + 1).tolist()
    cells = ravel(offsets - low, tuple(sizes))
    nothing = kappa.new_zeros(len(queries), math.prod(sizes))
    seen = nothing.scatter(-1, cells, 1.0)
    both = (seen @ seen.t()).tril(-1)  # [n, n']: offsets at which both have a key
    found = []
    for head in kappa:  # one at a time: offsets are four times as many as keys
        canvas = nothing.scatter(-1, cells, head)
        shared = canvas.square() @ seen.t()  # [n, n']: squared norm of n where n' has keys too
        norms = (shared * shared.t()).sqrt()
        weights = torch.where(norms != 0, both, 0)
        cosines = canvas @ canvas.t() / torch.where(norms != 0, norms, 1)
        total = weights.sum()
        found.append((weights * cosines).sum() / torch.where(total > 0, total, torch.nan))
    return torch.stack(found)


def entropy(kappa: Float[Tensor, "heads queries keys"]) -> Float[Tensor, " heads"]:
    """Return the entropy of ``p = |kappa_n| / sum_m |kappa_nm|`` in nats, averaged over queries.

    It is 0 where a token attends to one token and ``log(keys)`` where it attends to all alike. A
    signed kernel is taken by magnitude: the measure says how spread out it is, not which sign.
    """
    magnitudes = kappa.abs()
    totals = magnitudes.sum(-1, keepdim=True)
    known = totals.squeeze(-1) != 0
    p = magnitudes / torch.where(totals != 0, totals, 1)
    count = known.sum(-1)
    # A row of zeros adds no entropy.
    found: Tensor = torch.special.entr(p).sum((-1, -2)) / torch.where(count > 0, count, torch.nan)
    return found


def effective_rank(kappa: Float[Tensor, "heads queries keys"]) -> Float[Tensor, " heads"]:
    """Return the effective rank of each head's matrix, between 1 and the smaller of its sides.

    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007:
    the exponential of the entropy of the singular values divided by their sum.
    """
    finite = kappa.isfinite().all(-1).all(-1)  # a run that diverged has none, which svdvals refuses
    values = torch.linalg.svdvals(torch.where(finite[..., None, None], kappa, 0))
    total = values.sum(-1, keepdim=True)
    shares = values / torch.where(total > 0, total, torch.nan)
    rank: Tensor = torch.special.entr(shares).sum(-1).exp()
    return rank


def spaced(count: int, most: int) -> Int[Tensor, " chosen"]:
    """Return `most` indices below `count` in even steps, the ends among them; all if there are few.

    Raises:
        ValueError: `most` is below 1.
    """
    if most < 1:
        raise ValueError(f"{most=} must be at least 1")
    if count <= most:
        return torch.arange(count)
    return torch.linspace(0, count - 1, most, dtype=torch.float64).round().long()


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else float("nan")
