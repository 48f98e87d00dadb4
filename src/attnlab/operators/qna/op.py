"""The window sums as one PyTorch operator, ``attnlab::qna_attend``, with its own backward.

It is one opaque node for `torch.compile`, and each device computes it in its own way: a CPU by
convolutions where the scores allow it, CUDA by a fused kernel, any other device offset by offset.
"""

import importlib
import importlib.util
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from attnlab.operators.qna import by_sample, offsets
from attnlab.operators.qna.sums import Inputs, Sums, precision
from attnlab.operators.qna.window import Window


@torch.library.custom_op("attnlab::qna_attend", mutates_args=())
def qna_attend(
    scores: Tensor,
    values: Tensor,
    bias: Tensor,
    scale: Tensor,
    seed: Tensor | None,
    window: list[int],
    stable: bool,
    dropout: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the fields of `Sums`; `window` as `Window.flat`, `keep` if a backward will follow.

    The fused kernel leaves logarithms of sums in the place of inverses, and no partial terms.
    """
    geometry = Window.of(window)
    fused = _fused(scores, dropout)
    if fused is not None:
        out, log_sum = fused.forward(scores, values, bias, scale, geometry)
        return out, log_sum, values.new_empty(0)
    inputs = Inputs(scores, values, bias, scale).to(precision(values))
    if dropout or scores.device.type != "cpu":
        sums = offsets.forward(inputs, geometry, dropout, seed)
        sums = sums if keep else sums._replace(partials=sums.partials[:, :0])
    else:
        sums = by_sample.forward(inputs, geometry, stable, keep)
    return _stored(sums.out, values), sums.inverse, _stored(sums.partials, values)


@torch.library.custom_op("attnlab::qna_attend_backward", mutates_args=())
def qna_attend_backward(
    grad_out: Tensor,
    scores: Tensor,
    values: Tensor,
    bias: Tensor,
    scale: Tensor,
    seed: Tensor | None,
    out: Tensor,
    inverse: Tensor,
    partials: Tensor,
    window: list[int],
    stable: bool,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of scores, values, bias and scale."""
    geometry, given = Window.of(window), Inputs(scores, values, bias, scale)
    fused = _fused(scores, dropout)
    if fused is not None:
        grads = Inputs(*fused.backward(grad_out, *given, inverse, geometry))
    else:
        inputs, grad_out = given.to(precision(values)), grad_out.to(precision(values))
        sums = Sums(out.to(grad_out.dtype), inverse, partials.to(grad_out.dtype))
        if dropout or scores.device.type != "cpu":
            grads = offsets.backward(grad_out, inputs, sums, geometry, dropout, seed)
        else:
            grads = by_sample.backward(grad_out, inputs, sums, geometry, stable)
    typed = [grad.to(tensor.dtype) for grad, tensor in zip(grads, given, strict=True)]
    return (
        typed[0].contiguous(),
        _stored(typed[1], values),
        typed[2].contiguous(),
        typed[3].contiguous(),
    )


def _stored(tokens: Tensor, values: Tensor) -> Tensor:
    """Return ``[..., heads, head_dim]`` in the type of the values, heads innermost on a CPU."""
    tokens = tokens.to(values.dtype)
    return tokens.mT.contiguous().mT if values.device.type == "cpu" else tokens.contiguous()


def _fused(scores: Tensor, dropout: float) -> ModuleType | None:
    """Return the fused kernels if they serve this case."""
    if dropout or scores.device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    # Only here: triton takes long to import, and is absent where there is no CUDA.
    return importlib.import_module("attnlab.operators.qna.fused")


@qna_attend.register_fake
def _(
    scores: Tensor,
    values: Tensor,
    bias: Tensor,
    scale: Tensor,
    seed: Tensor | None,
    window: list[int],
    stable: bool,
    dropout: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    count = Window.of(window).count(tuple(scores.shape[1:-2]))
    batch, (queries, heads) = scores.shape[0], scores.shape[-2:]
    out = values.new_empty(batch, *count, *values.shape[-2:])
    inverse = values.new_empty(batch, *count, queries, heads, dtype=precision(values))
    if _fused(scores, dropout) is not None:
        return out, inverse, values.new_empty(0)
    partials = values.new_empty(batch, queries - 1 if keep else 0, *out.shape[1:])
    return _stored(out, values), inverse, _stored(partials, values)


@qna_attend_backward.register_fake
def _(
    grad_out: Tensor,
    scores: Tensor,
    values: Tensor,
    bias: Tensor,
    scale: Tensor,
    *rest: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_values = _stored(values.new_empty(values.shape), values)
    return (
        scores.new_empty(scores.shape),
        grad_values,
        bias.new_empty(bias.shape),
        scale.new_empty(scale.shape),
    )


def _setup_context(
    ctx: FunctionCtx, inputs: tuple[object, ...], output: tuple[Tensor, ...]
) -> None:
    *tensors, ctx.window, ctx.stable, ctx.dropout, _ = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(*tensors, *output)  # type: ignore[arg-type]
    ctx.set_materialize_grads(False)  # nothing flows back into what only serves the backward


def _backward(
    ctx: FunctionCtx, grad_out: Tensor | None, *_: Tensor | None
) -> tuple[Tensor | None, ...]:
    if grad_out is None:
        return (None,) * 9
    options = (ctx.window, ctx.stable, ctx.dropout)  # type: ignore[attr-defined]
    grads = qna_attend_backward(grad_out, *ctx.saved_tensors, *options)  # type: ignore[attr-defined]
    return *grads, *(None,) * 5


qna_attend.register_autograd(_backward, setup_context=_setup_context)
