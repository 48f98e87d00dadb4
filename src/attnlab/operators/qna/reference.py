"""QnA by its definition: every window is gathered, masked and put through a softmax."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def windows(x: Tensor, grid_rank: int, size: int, stride: int, padding: int, fill: float) -> Tensor:
    """Gather the windows of ``[batch, *grid, ...]``: ``[batch, *out, ..., size ** grid_rank]``."""
    trailing = x.ndim - 1 - grid_rank
    x = F.pad(x, [0, 0] * trailing + [padding, padding] * grid_rank, value=fill)
    for axis in range(1, 1 + grid_rank):
        x = x.unfold(axis, size, stride)
    return x.flatten(-grid_rank)


def qna_reference(
    keys: Float[Tensor, "batch *grid heads head_dim"],
    values: Float[Tensor, "batch *grid heads head_dim"],
    query: Float[Tensor, "queries heads head_dim"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    kernel_size: int,
    stride: int,
    padding: int,
) -> Float[Tensor, "batch *out heads head_dim"]:
    """Return, per output token i and head, the sum over the queries l of their attention.

    ``sum_l sum_n scale[n - i, l] softmax_n(q_l . k_n + bias[n - i, l]) v_n`` for n in the window
    of i; queries come scaled. The attention scale multiplies after the softmax has been normalised
    (Arar et al., CVPR 2022); tokens outside the grid have score -inf. Memory and time grow with
    the number of offsets in the window.
    """
    gather = (keys.ndim - 3, kernel_size, stride, padding)
    scores = torch.einsum("b...hd,lhd->b...lh", keys, query)
    logits = windows(scores, *gather, fill=-math.inf) + bias.movedim(0, -1)
    weights = logits.softmax(-1) * scale.movedim(0, -1)
    return torch.einsum("b...lhn,b...hdn->b...hd", weights, windows(values, *gather, fill=0.0))
