"""QnA by its definition: every window is gathered, masked and put through a softmax."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from attnlab.operators.qna.window import Window


def qna_reference(
    keys: Float[Tensor, "batch *grid heads head_dim"],
    values: Float[Tensor, "batch *grid heads head_dim"],
    query: Float[Tensor, "#batch queries heads head_dim"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    window: Window,
    ignored: Bool[Tensor, "batch *grid"] | None = None,
) -> Float[Tensor, "batch *out heads head_dim"]:
    """Return, per output token i and head, the sum over the queries l of their attention.

    ``sum_l sum_n scale[n - i, l] softmax_n(q_l . k_n + bias[n - i, l]) v_n`` for n in the window
    of i; queries come scaled. The attention scale multiplies after the softmax has been normalised
    (Arar et al., CVPR 2022); ignored tokens and those outside the grid have score -inf, and a
    window with no other token gives 0. Memory and time grow with the number of offsets.
    """
    grid = tuple(keys.shape[1:-2])

    def gather(tokens: Tensor, fill: float) -> Tensor:
        padded = F.pad(tokens, window.pads(2), value=fill)
        return torch.stack(list(window.entries(padded, grid)), -1)

    scores = torch.einsum("b...hd,blhd->b...lh", keys, query.expand(keys.shape[0], -1, -1, -1))
    if ignored is not None:
        scores = scores.masked_fill(ignored[..., None, None], -math.inf)
    logits = gather(scores, -math.inf) + bias.movedim(0, -1)
    empty = logits.isneginf().all(-1, keepdim=True)
    weights = logits.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
    weights = weights * scale.movedim(0, -1)
    return torch.einsum("b...lhn,b...hdn->b...hd", weights, gather(values, 0.0))
