"""Window sums offset by offset, less the maximum of each window: exact for scores of any size.

One pass over all tokens for each offset of the window, forward and backward, in memory that does
not depend on the window. Slower than convolutions; the only linear-memory form that can drop single
attention weights.
"""

import functools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.qna.sums import Inputs, Sums, row_products
from attnlab.operators.qna.window import Window


def _peak(
    scores: Float[Tensor, "batch *grid queries heads"],
    bias: Float[Tensor, "offsets queries heads"],
    window: Window,
) -> tuple[Tensor, Tensor]:
    """Return the padded scores and the maximum of each window, 0 where it has no token."""
    padded = F.pad(scores, window.pads(2), value=-math.inf)
    peak = torch.full((), -math.inf, dtype=scores.dtype, device=scores.device)
    entries = window.entries(padded, tuple(scores.shape[1:-2]))
    for entry, added in zip(entries, bias, strict=True):
        peak = torch.maximum(peak, entry + added)
    return padded, peak.masked_fill(peak.isneginf(), 0.0)


def _keeps(like: Tensor, dropout: float, seed: Tensor | None) -> Iterator[Tensor | None]:
    """Yield for each offset what its weights are multiplied by: 0 or 1 / (1 - dropout)."""
    generator = None
    if dropout and seed is not None:
        generator = torch.Generator(like.device).manual_seed(int(seed))
    while True:
        if generator is None:
            yield None
        else:
            keep = torch.empty_like(like).bernoulli_(1 - dropout, generator=generator)
            yield keep.div_(1 - dropout)


def forward(
    inputs: Inputs, window: Window, dropout: float = 0.0, seed: Tensor | None = None
) -> Sums:
    """Return the window sums, the attention weights dropped with probability `dropout`.

    Scores less their window's maximum come first in each exponent, so that scores of some hundreds
    lose nothing to a bias.
    """
    scores, values, bias, scale = inputs
    grid = tuple(scores.shape[1:-2])
    padded, peak = _peak(scores, bias, window)
    padded_values = F.pad(values, window.pads(2))
    denominator = torch.zeros_like(peak)
    numerator = peak.new_zeros(*peak.shape, values.shape[-1])
    for entry, value, added, factor, keep in zip(
        window.entries(padded, grid),
        window.entries(padded_values, grid),
        bias,
        scale.expand_as(bias),
        _keeps(peak, dropout, seed),
        strict=False,
    ):
        weight = (entry - peak).add_(added).exp_()
        denominator += weight
        weight *= factor if keep is None else factor * keep
        numerator += weight.unsqueeze(-1) * value.unsqueeze(-3)
    inverse = denominator.reciprocal()
    inverse = inverse.masked_fill(inverse.isinf(), 0.0)
    terms = numerator * inverse.unsqueeze(-1)
    return Sums(terms.sum(-3), inverse, terms[..., :-1, :, :].movedim(-3, 1).contiguous())


def backward(
    grad_out: Float[Tensor, "batch *out heads head_dim"],
    inputs: Inputs,
    sums: Sums,
    window: Window,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Inputs:
    """Return the gradients of the inputs."""
    scores, values, bias, scale = inputs
    grid = tuple(scores.shape[1:-2])
    products = row_products(grad_out, sums)
    padded, peak = _peak(scores, bias, window)
    padded_values = F.pad(values, window.pads(2))
    grad_scores, grad_values = torch.zeros_like(padded), torch.zeros_like(padded_values)
    grad_bias, grad_scale = torch.empty_like(bias), torch.empty_like(bias)
    tokens = tuple(range(peak.ndim - 2))
    for index, (entry, value, to_scores, to_values, keep) in enumerate(
        zip(
            window.entries(padded, grid),
            window.entries(padded_values, grid),
            window.entries(grad_scores, grid),
            window.entries(grad_values, grid),
            _keeps(peak, dropout, seed),
            strict=False,
        )
    ):
        factor = scale.expand_as(bias)[index]
        attention = (entry - peak).add_(bias[index]).exp_().mul_(sums.inverse)
        kept = attention if keep is None else attention * keep
        toward = kept * (grad_out * value).sum(-1).unsqueeze(-2)
        grad_scale[index] = toward.sum(tokens)
        grad_logit = (toward * factor).addcmul_(attention, products, value=-1)
        grad_bias[index] = grad_logit.sum(tokens)
        to_scores += grad_logit
        to_values += (kept * factor).sum(-2).unsqueeze(-1) * grad_out
    if scale.shape[0] == 1:
        grad_scale = grad_scale.sum(0, keepdim=True)
    crop = functools.partial(window.crop, grid=grid)
    return Inputs(crop(grad_scores), crop(grad_values), grad_bias, grad_scale)
