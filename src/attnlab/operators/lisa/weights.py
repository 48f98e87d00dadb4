"""LiSA's transformed kernel for chosen output tokens, by its defining sums."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.grids import ravel, token_coordinates
from attnlab.operators.lisa.kernels import ACTIVATIONS
from attnlab.operators.lisa.reference import ATTENTION_MAPS


def _at_offsets(
    tables: Float[Tensor, "rows rpes *offsets"], at: Int[Tensor, "queries axes"], grid: Grid
) -> Float[Tensor, "rows rpes queries keys"]:
    """Return table[p(n) - p(m)] for the positions `at` and every token m of the grid."""
    middle = torch.tensor(grid, device=tables.device) - 1
    index = at[:, None] - token_coordinates(grid, tables.device) + middle
    return tables.flatten(2)[:, :, ravel(index, tuple(tables.shape[2:]))]


def token_weights(
    q: Float[Tensor, "batch heads queries key_dim"],
    k: Float[Tensor, "batch groups keys key_dim"],
    prior: Float[Tensor, "batch heads queries rpes"],
    at: Int[Tensor, "queries axes"],
    encoding: Float[Tensor, "groups rpes *offsets"] | None,
    composing: Float[Tensor, "heads rpes *offsets"],
    temperature: Float[Tensor, " heads"],
    content_gain: Float[Tensor, " heads"] | None,
    *,
    grid: Grid,
    kernel: str = "double_softmax",
    activation: str = "identity",
    split: bool = False,
) -> Float[Tensor, "batch kernels queries keys"]:
    """Return kappa_nm of `reference.structure_aware_attention` for queries at chosen positions.

    Memory grows with queries x keys x R, not with the square of the keys.

    Args:
        q: Queries of the chosen output tokens.
        k: Keys of all tokens.
        prior: What is added to the scores of the chosen output tokens, or the mask's gates.
        at: Input token, per axis, on which each chosen output token sits.
        encoding: Tables E over all offsets, None in the variant ``mask``.
        composing: Tables P over all offsets.
        temperature: tau, per head.
        content_gain: beta, per head; None for no content term.
        grid: Size of the token grid.
        kernel: Key of `reference.ATTENTION_MAPS`.
        activation: Key of `ACTIVATIONS`.
        split: Pattern r acts on its own slice of a head's channels: each slice is a kernel, slices
            of one head next to each other.
    """
    shared = composing.shape[0] // k.shape[1]
    a = ATTENTION_MAPS[kernel](q, k.repeat_interleave(shared, dim=1), temperature[:, None, None])
    scores = prior
    if encoding is not None:
        surroundings = _at_offsets(encoding, at, grid).repeat_interleave(shared, dim=0)
        scores = scores + torch.einsum("bhnm,hrnm->bhnr", a, surroundings)
    scores = ACTIVATIONS[activation](scores)
    slices = "bhrnm" if split else "bhnm"
    kappa = torch.einsum(f"bhnr,hrnm->{slices}", scores, _at_offsets(composing, at, grid))
    kappa = kappa if split else kappa.unsqueeze(2)
    a = a.unsqueeze(2)
    if encoding is None:
        kappa = a * kappa
    if content_gain is not None:
        kappa = kappa + content_gain.view(-1, 1, 1, 1) * a
    return kappa.flatten(1, 2)
