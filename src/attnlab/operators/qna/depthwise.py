"""Depth-wise convolution and its gradients, each by what oneDNN does fastest on a CPU."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.qna.window import Window

_DIRECT_OFFSETS = 16  # up to there oneDNN's own weight gradient is faster
_SLOW_COLUMNS = range(10, 14)  # oneDNN's kernel is up to twice as fast on 14 or 15, the rest zero
_CHUNK = 2**18  # elements in one convolution of `_kernel_gradient`: 1 MiB in float32


def correlate(
    maps: Float[Tensor, "batch channels *grid"],
    weight: Float[Tensor, "channels 1 *size"],
    window: Window,
) -> Float[Tensor, "batch channels *out"]:
    """Return the sum over each window of the maps, weighted by one kernel per channel."""
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


def correlate_backward(
    grads: Float[Tensor, "batch channels *out"],
    maps: Float[Tensor, "batch channels *grid"],
    weight: Float[Tensor, "channels 1 *size"],
    window: Window,
) -> tuple[Float[Tensor, "batch channels *grid"], Float[Tensor, "channels 1 *size"]]:
    """Return the gradients of `correlate`'s maps and weight."""
    rank, channels = len(window.size), len(weight)
    direct = window.offsets <= _DIRECT_OFFSETS or rank == 3
    transposed = set(window.stride) == {1}
    padded, padding = _padded(maps, window)
    grad_maps, grad_weight, _ = torch.ops.aten.convolution_backward(
        grads, padded, weight, None, window.stride, padding, window.dilation,
        False, [0] * rank, channels, [not transposed, direct, False],
    )  # fmt: skip
    if transposed:
        grad_maps = correlate(grads, weight.flip(*range(2, 2 + rank)), window.transposed)
    elif padded is not maps:
        grad_maps = window.crop(grad_maps.movedim(1, -1), tuple(maps.shape[2:])).movedim(-1, 1)
    if not direct:
        grad_weight = _kernel_gradient(grads, padded, padding, window)
    return grad_maps, grad_weight


def _padded(maps: Tensor, window: Window) -> tuple[Tensor, list[int]]:
    """Pad uneven sides, and return what the convolution itself pads on both sides of an axis."""
    if all(before == after for before, after in window.padding):
        return maps, [before for before, _ in window.padding]
    return F.pad(maps, window.pads(0)), [0] * len(window.size)


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
            image = image.permute(2, 3, 0, 1).flatten(2).unsqueeze(0).movedim(-1, 1)
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
