"""Window sums by depth-wise convolutions, forward and backward, without storing their inputs.

With e_n = exp(s_n), the softmax quotient of a window splits into two correlations that share the
offset weights exp(bias): numerator ``sum_n [scale exp(bias)][n - i] e_n v_n`` and denominator
``sum_n [exp(bias)][n - i] e_n``. Both are one convolution over ``queries * (head_dim + 1) *
heads`` channels, channels last. The backward recomputes its input. See the README beside this file.

Inside, channels are in the order (query, head_dim, head), so that products with the scores, one
per query and head, run over contiguous memory.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from attnlab.operators.qna.sums import Inputs, Sums
from attnlab.operators.qna.window import Window

_REACH = 60.0  # |score| + |bias|: sums of exp(+-60) stay inside float32
_ROUNDING = 16.0  # a difference of scores up to here is rounded by less than 5e-7
_DIRECT_OFFSETS = 16  # up to there oneDNN's own weight gradient is faster
_SLOW_COLUMNS = range(10, 14)  # oneDNN's kernel is up to twice as fast on 14 or 15, the rest zero
_CHUNK = 2**18  # elements in one convolution of `_kernel_gradient`: 1 MiB in float32


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


def _padded(maps: Tensor, window: Window) -> tuple[Tensor, list[int]]:
    """Pad uneven sides, and return what the convolution itself pads on both sides of an axis."""
    if all(before == after for before, after in window.padding):
        return maps, [before for before, _ in window.padding]
    return F.pad(maps, window.pads(0)), [0] * len(window.size)


def _correlate(maps: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Convolve ``[batch, channels, *grid]`` with one kernel per channel."""
    extra = (_SLOW_COLUMNS.stop + 1 - window.size[-1]) // 2
    if window.size[-1] in _SLOW_COLUMNS and len(window.size) == 2:
        window, weight = window.widened(extra), F.pad(weight, (extra, extra))
    maps, padding = _padded(maps, window)
    convolve = F.conv2d if len(window.size) == 2 else F.conv3d
    out: Tensor = convolve(
        maps,
        weight,
        stride=window.stride,
        padding=padding,
        dilation=window.dilation,
        groups=len(weight),
    )
    return out


def forward(inputs: Inputs, shift: Float[Tensor, "batch queries heads"], window: Window) -> Sums:
    """Return the window sums of ``scores - shift``."""
    scores, values, bias, scale = inputs
    queries, heads = scores.shape[-2:]
    exps = _exponentials(scores, shift)
    weight = _kernel(*_offset_weights(bias, scale), values.shape[-1], window)
    sums = _correlate(_weighted(exps, values).movedim(-1, 1), weight, window)
    numerator, denominator = _split(sums.movedim(1, -1), queries, heads)
    inverse = denominator.reciprocal()
    inverse = inverse.masked_fill(inverse.isinf(), 0.0)  # no token in the window
    tokens, (head_dim, _) = numerator.shape[1:-3], numerator.shape[-2:]
    partials = values.new_empty(len(values), queries - 1, *tokens, head_dim, heads)
    last = numerator[..., -1, :, :] * inverse[..., -1:, :]
    for query, partial in enumerate(partials.unbind(1)):
        torch.mul(numerator[..., query, :, :], inverse[..., query, None, :], out=partial)
        last += partial
    return Sums(last.mT, inverse, partials.mT)


def _exponentials(scores: Tensor, shift: Tensor) -> Tensor:
    axes = [1] * (scores.ndim - 3)
    return (scores - shift.view(len(shift), *axes, *shift.shape[1:])).exp_()


def backward(
    grad_out: Float[Tensor, "batch *out heads head_dim"],
    inputs: Inputs,
    shift: Float[Tensor, "batch queries heads"],
    sums: Sums,
    products: Float[Tensor, "batch *out queries heads"],
    window: Window,
) -> Inputs:
    """Return the gradients of the inputs; `products` as `row_products`."""
    scores, values, bias, scale = inputs
    queries, heads = scores.shape[-2:]
    below, above = _offset_weights(bias, scale)
    weight = _kernel(below, above, values.shape[-1], window)
    exps = _exponentials(scores, shift)
    maps = _weighted(exps, values)
    grads = _weighted(sums.inverse, grad_out)
    _split(grads, queries, heads)[1].mul_(products).neg_()

    grad_maps, grad_weight = _convolution_backward(
        grads.movedim(-1, 1), maps.movedim(-1, 1), weight, window
    )
    grad_weighted, grad_exps = _split(grad_maps.movedim(1, -1), queries, heads)
    grad_values = grad_weighted[..., 0, :, :] * exps[..., :1, :]
    for query in range(1, queries):
        grad_values.addcmul_(grad_weighted[..., query, :, :], exps[..., query, None, :])
    grad_scores = grad_weighted.mul_(values.mT.unsqueeze(-3)).sum(-2)
    grad_scores.add_(grad_exps).mul_(exps)

    grad_above, grad_below = _split(grad_weight.flatten(1).t(), queries, heads)
    grad_above = grad_above.sum(2)
    grad_bias = grad_above * above + grad_below * below
    grad_scale = grad_above * below
    if scale.shape[0] == 1:
        grad_scale = grad_scale.sum(0, keepdim=True)
    return Inputs(grad_scores, grad_values.mT, grad_bias, grad_scale)


def _convolution_backward(
    grads: Tensor, maps: Tensor, weight: Tensor, window: Window
) -> tuple[Tensor, Tensor]:
    """Return the gradients of a depth-wise convolution's input and weight."""
    rank, channels = len(window.size), len(weight)
    direct = window.offsets <= _DIRECT_OFFSETS or rank == 3
    unit = set(window.stride) == {1}
    padded, padding = _padded(maps, window)
    grad_maps, grad_weight, _ = torch.ops.aten.convolution_backward(
        grads, padded, weight, None, window.stride, padding, window.dilation,
        False, [0] * rank, channels, [not unit, direct, False],
    )  # fmt: skip
    if unit:
        grad_maps = _correlate(grads, weight.flip(*range(2, 2 + rank)), window.transposed)
    elif padded is not maps:
        grad_maps = window.crop(grad_maps.movedim(1, -1), tuple(maps.shape[2:])).movedim(-1, 1)
    if not direct:
        grad_weight = _kernel_gradient(grads, padded, padding, window)
    return grad_maps, grad_weight


def _kernel_gradient(grads: Tensor, maps: Tensor, padding: list[int], window: Window) -> Tensor:
    """Return the weight gradient of a depth-wise convolution, itself as a convolution.

    The weight of offset u has the gradient ``sum_i grads[i] maps[i * stride + u * dilation]``: the
    maps convolved with a kernel as large as the gradient's map. oneDNN's forward kernel does that
    3 to 4 times faster than its weight gradient.
    """
    channels = grads.shape[1]
    images = max(1, _CHUNK // maps[0].numel())
    total = grads.new_zeros(channels, 1, *window.size)
    for grad, image in zip(torch.split(grads, images), torch.split(maps, images), strict=True):
        if len(image) > 1:  # images side by side as channels, still channels last
            image = image.permute(2, 3, 0, 1).flatten(2).permute(2, 0, 1).unsqueeze(0)
        correlated = F.conv2d(
            image,
            grad.flatten(0, 1).unsqueeze(1),
            stride=window.dilation,
            padding=padding,
            dilation=window.stride,
            groups=grad.shape[0] * channels,
        )
        correlated = correlated[..., : window.size[0], : window.size[1]]
        total += correlated.view(len(grad), channels, 1, *window.size).sum(0)
    return total
