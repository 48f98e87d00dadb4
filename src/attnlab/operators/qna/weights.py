"""QnA's kernel over the whole grid, for chosen windows: what its fast forms never store."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnlab.operators.grids import ravel, token_coordinates
from attnlab.operators.qna.window import Window


def token_weights(
    scores: Float[Tensor, "batch *grid queries heads"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    window: Window,
    at: Int[Tensor, "windows axes"],
) -> Float[Tensor, "batch heads windows keys"]:
    """Return the weight of every token in the windows `at`, zero for those outside.

    ``sum_l scale[n - i, l] softmax_n(s_l(n) + bias[n - i, l])``: the queries l share the values,
    so that their kernels add up to one for each head.

    Args:
        scores: Score of every token for every query and head.
        bias: Position bias per offset of the window.
        scale: Weight after the softmax, per offset or one for all.
        window: Geometry of the windows.
        at: Index of each chosen window, per axis.
    """
    grid = tuple(scores.shape[1:-2])
    sides = [before for before, _ in window.padding]
    size, stride, dilation, before = (
        torch.tensor(numbers, device=scores.device)
        for numbers in (grid, window.stride, window.dilation, sides)
    )
    entries = dilation * token_coordinates(window.size, scores.device)
    tokens = (at * stride - before)[:, None] + entries
    outside = ((tokens < 0) | (tokens >= size)).any(-1)
    index = ravel(tokens, grid).where(~outside, 0)

    logits = scores.flatten(1, -3)[:, index] + bias
    logits = logits.masked_fill(outside[..., None, None], -math.inf)
    empty = outside.all(-1)[:, None, None, None]
    attention = logits.masked_fill(empty, 0.0).softmax(2).masked_fill(outside[..., None, None], 0.0)
    weights = (attention * scale).sum(-2).permute(0, 3, 1, 2)

    kernel = weights.new_zeros(*weights.shape[:3], math.prod(grid))
    # Entries outside all point to the first token, and add zero to it.
    return kernel.scatter_add_(-1, index.expand_as(weights), weights)
