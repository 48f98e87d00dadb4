"""Window sums by depth-wise convolutions, forward and backward, without storing their inputs.

With e_n = exp(s_n), the softmax quotient of a window splits into two correlations that share the
offset weights exp(bias): numerator ``sum_n [scale exp(bias)][n - i] e_n v_n`` and denominator
``sum_n [exp(bias)][n - i] e_n``. Both are one convolution over ``queries * (head_dim + 1) *
heads`` channels, channels last. The backward recomputes its input. See the README beside this file.

Inside, channels are in the order (query, head_dim, head), so that products with the scores, one
per query and head, run over contiguous memory.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlab.operators.qna.depthwise import correlate, correlate_backward
from attnlab.operators.qna.sums import Inputs, Sums, row_products
from attnlab.operators.qna.window import Window

_REACH = 60.0  # |score| + |bias|: sums of exp(+-60) stay inside float32
_ROUNDING = 16.0  # a difference of scores up to here is rounded by less than 5e-7
_CHUNK = 2**22  # elements convolved at once, 16 MiB in float32: the bound of the working memory


def shift_to_fit(
    scores: Float[Tensor, "batch *grid queries heads"], bias: Float[Tensor, "offsets queries heads"]
) -> tuple[Float[Tensor, "batch queries heads"], Bool[Tensor, "batch"]]:
    """Return what to subtract from each map of scores, and which samples do not fit even so.

    Exponentials must neither overflow nor vanish in any window. Maps of large scores that lie close
    together are moved to 0, which leaves the softmax as it is; others fit if they need no move.
    A sample also does not fit if the move would round its scores by more than a few 1e-7. Scores
    of -inf count for nothing.
    """
    exporting = torch.compiler.is_exporting()
    largest = bias.abs().amax(0)
    if not exporting and (scores.abs().flatten(1).amax(1) + largest.amax() <= _REACH).all():
        shape = (scores.shape[0], *scores.shape[-2:])  # the usual case, seen faster
        return scores.new_zeros(shape), scores.new_zeros(shape[0], dtype=torch.bool)
    flat = scores.flatten(1, -3)
    low, high = flat.aminmax(dim=1)
    if exporting or low.isneginf().any():
        low = flat.masked_fill(flat.isneginf(), math.inf).amin(1)
        empty = low.isposinf()
        low, high = low.masked_fill(empty, 0.0), high.masked_fill(empty, 0.0)
    farthest, nearest = torch.maximum(high, -low), torch.maximum(low, -high)
    still = farthest <= _REACH
    shift = ((low + high) / 2).masked_fill(still, 0.0)
    reach = torch.where(still, farthest, (high - low) / 2)
    rounded = ~still & (reach > nearest.clamp_min(_ROUNDING))
    fits = (reach + largest <= _REACH) & ~rounded
    return shift, ~fits.flatten(1).all(1)


def _offset_weights(bias: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of denominator and numerator per offset, query and head."""
    below = bias.exp()
    return below, below * scale


def _kernel(below: Tensor, above: Tensor, head_dim: int, window: Window) -> Tensor:
    """Return the convolution's weight, ``[channels, 1, *size]``."""
    numerator = above.unsqueeze(2).expand(-1, -1, head_dim, -1)
    columns = torch.cat([numerator.flatten(1), below.flatten(1)], 1)
    return columns.t().reshape(-1, 1, *window.size)


def _split(channels: Tensor, queries: int, heads: int) -> tuple[Tensor, Tensor]:
    """Return views: per query, channel and head, and per query and head."""
    per_channel = channels.shape[-1] - queries * heads
    numerator, denominator = torch.split(channels, [per_channel, queries * heads], -1)
    return (
        torch.unflatten(numerator, -1, (queries, -1, heads)),
        torch.unflatten(denominator, -1, (queries, heads)),
    )


def _weighted(exps: Tensor, values: Tensor) -> Tensor:
    """Return the convolution's input, ``[batch, *grid, channels]``: exps * values, then exps."""
    *tokens, queries, heads = exps.shape
    head_dim = values.shape[-1]
    channels = exps.new_empty(*tokens, queries * (head_dim + 1) * heads)
    numerator, denominator = _split(channels, queries, heads)
    torch.mul(exps.unsqueeze(-2), values.mT.unsqueeze(-3), out=numerator)
    denominator.copy_(exps)
    return channels


def _pieces(channels: int, inputs: Inputs) -> Iterator[slice]:
    """Yield the samples that are convolved at once."""
    batch = inputs.scores.shape[0]
    step = max(1, _CHUNK // (channels * math.prod(inputs.scores.shape[1:-2])))
    return (slice(start, start + step) for start in range(0, batch, step))


def forward(
    inputs: Inputs, shift: Float[Tensor, "batch queries heads"], window: Window, keep: bool
) -> Sums:
    """Return the window sums of ``scores - shift``; partial terms only if `keep`."""
    scores, values, bias, scale = inputs
    (batch, *grid, queries, heads), head_dim = scores.shape, values.shape[-1]
    count = window.count(tuple(grid))
    sums = Sums(
        values.new_empty(batch, *count, head_dim, heads).mT,
        values.new_empty(batch, *count, queries, heads),
        values.new_empty(batch, queries - 1 if keep else 0, *count, head_dim, heads).mT,
    )
    weight = _kernel(*_offset_weights(bias, scale), head_dim, window)
    for piece in _pieces(len(weight), inputs):
        exps = _exponentials(scores[piece], shift[piece])
        maps = _weighted(exps, values[piece]).movedim(-1, 1)
        found = _split(correlate(maps, weight, window).movedim(1, -1), queries, heads)
        _divide(*found, Sums(*(tensor[piece] for tensor in sums)))
    return sums


def _exponentials(scores: Tensor, shift: Tensor) -> Tensor:
    axes = [1] * (scores.ndim - 3)
    return (scores - shift.view(len(shift), *axes, *shift.shape[1:])).exp_()


def _divide(numerator: Tensor, denominator: Tensor, into: Sums) -> None:
    inverse, out = torch.reciprocal(denominator, out=into.inverse), into.out.mT
    inverse.masked_fill_(inverse.isinf(), 0.0)  # no token in the window
    torch.mul(numerator[..., -1, :, :], inverse[..., -1:, :], out=out)
    for query, partial in enumerate(into.partials.mT.unbind(1)):
        torch.mul(numerator[..., query, :, :], inverse[..., query, None, :], out=partial)
        out += partial
    for query in range(into.partials.shape[1], inverse.shape[-2] - 1):
        out.addcmul_(numerator[..., query, :, :], inverse[..., query, None, :])


def backward(
    grad_out: Float[Tensor, "batch *out heads head_dim"],
    inputs: Inputs,
    shift: Float[Tensor, "batch queries heads"],
    sums: Sums,
    window: Window,
) -> Inputs:
    """Return the gradients of the inputs."""
    scores, values, bias, scale = inputs
    queries, heads = scores.shape[-2:]
    below, above = _offset_weights(bias, scale)
    weight = _kernel(below, above, values.shape[-1], window)
    grad_weight = torch.zeros_like(weight)
    grad_scores, grad_values = torch.empty_like(scores), torch.empty_like(values.mT).mT
    for piece in _pieces(len(weight), inputs):
        exps, value = _exponentials(scores[piece], shift[piece]), values[piece]
        part = Sums(*(tensor[piece] for tensor in sums))
        grads = _weighted(part.inverse, grad_out[piece])
        _split(grads, queries, heads)[1].mul_(row_products(grad_out[piece], part)).neg_()
        grad_maps, grad_kernel = correlate_backward(
            grads.movedim(-1, 1), _weighted(exps, value).movedim(-1, 1), weight, window
        )
        grad_weight += grad_kernel
        found = _split(grad_maps.movedim(1, -1), queries, heads)
        _multiply(*found, exps, value, grad_scores[piece], grad_values[piece])

    grad_above, grad_below = _split(grad_weight.flatten(1).t(), queries, heads)
    grad_above = grad_above.sum(2)
    grad_bias = grad_above * above + grad_below * below
    grad_scale = grad_above * below
    if scale.shape[0] == 1:
        grad_scale = grad_scale.sum(0, keepdim=True)
    return Inputs(grad_scores, grad_values, grad_bias, grad_scale)


def _multiply(
    grad_weighted: Tensor,
    grad_exps: Tensor,
    exps: Tensor,
    values: Tensor,
    to_scores: Tensor,
    to_values: Tensor,
) -> None:
    """Write the gradients of scores and values, from those of ``exps * values`` and ``exps``."""
    to_values = to_values.mT
    torch.mul(grad_weighted[..., 0, :, :], exps[..., :1, :], out=to_values)
    for query in range(1, exps.shape[-2]):
        to_values.addcmul_(grad_weighted[..., query, :, :], exps[..., query, None, :])
    torch.sum(grad_weighted.mul_(values.mT.unsqueeze(-3)), -2, out=to_scores)
    to_scores.add_(grad_exps).mul_(exps)
