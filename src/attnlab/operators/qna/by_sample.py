"""Window sums that take the fast form for each sample whose scores fit it, the exact for others.

The choice is made per sample and from the sample alone: no sample's result depends on its batch.
The exact form runs in float64, whose cost few samples ever pay.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnlab.operators.qna import convolution, offsets
from attnlab.operators.qna.sums import Inputs, Sums
from attnlab.operators.qna.window import Window


def forward(inputs: Inputs, window: Window, stable: bool, keep: bool) -> Sums:
    """Return the window sums, all by the exact form if `stable`; partial terms only if `keep`."""
    shift, wide = convolution.shift_to_fit(inputs.scores, inputs.bias)
    if not stable and not wide.any():
        return convolution.forward(inputs, shift, window, keep)
    wide |= stable
    tame = inputs._replace(scores=_without(inputs.scores, wide))
    sums = convolution.forward(tame, _without(shift, wide), window, keep)
    exact = offsets.forward(_chosen(inputs, wide), window)
    for whole, part in zip(sums, exact, strict=True):
        whole[wide] = part[:, : whole.shape[1]].to(whole.dtype)
    return sums


def backward(
    grad_out: Float[Tensor, "batch *out heads head_dim"],
    inputs: Inputs,
    sums: Sums,
    window: Window,
    stable: bool,
) -> Inputs:
    """Return the gradients of the inputs."""
    shift, wide = convolution.shift_to_fit(inputs.scores, inputs.bias)
    if not stable and not wide.any():
        return convolution.backward(grad_out, inputs, shift, sums, window)
    wide |= stable
    tame = inputs._replace(scores=_without(inputs.scores, wide))
    tame_grad, shift = _without(grad_out, wide), _without(shift, wide)
    grads = convolution.backward(tame_grad, tame, shift, sums, window)

    chosen, grad_out = _chosen(inputs, wide), grad_out[wide].double()
    exact = offsets.backward(grad_out, chosen, offsets.forward(chosen, window), window)
    exact = exact.to(grads.scores.dtype)
    grads.scores[wide], grads.values[wide] = exact.scores, exact.values
    return grads._replace(bias=grads.bias + exact.bias, scale=grads.scale + exact.scale)


def _chosen(inputs: Inputs, wide: Bool[Tensor, "batch"]) -> Inputs:
    """Return the samples that are too wide, in float64."""
    chosen = inputs._replace(scores=inputs.scores[wide], values=inputs.values[wide])
    return chosen.to(torch.float64)


def _without(tensor: Tensor, wide: Bool[Tensor, "batch"]) -> Tensor:
    """Return the tensor with 0 for the samples that are too wide."""
    return tensor.masked_fill(wide.view(-1, *[1] * (tensor.ndim - 1)), 0.0)
