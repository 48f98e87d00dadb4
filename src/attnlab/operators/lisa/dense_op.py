"""The dense sums as PyTorch operators with their own backward, which store no N x N array.

``attnlab::lisa_dense_scores`` is the first sum of LiSA, ``attnlab::lisa_dense_mix`` the second.
Each is one opaque node for `torch.compile`; CUDA computes it by fused kernels, any other device in
blocks.
"""

import importlib
import importlib.util
import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.utils.flop_counter import register_flop_formula

from attnlab.operators.lisa import blocked
from attnlab.operators.lisa.blocked import Inputs

_WIDEST = 128  # channels of a head or features that the fused kernels hold at once


@torch.library.custom_op("attnlab::lisa_dense_scores", mutates_args=())
def lisa_dense_scores(
    phi_q: Tensor, phi_k: Tensor, tables: Tensor, grid: list[int], stride: int
) -> tuple[Tensor, Tensor]:
    """Return phi_q . (E_r * phi_k), ``[batch, heads, queries, rpes]``, and E_r * phi_k.

    Args:
        phi_q: ``[batch, heads, queries, features]``.
        phi_k: ``[batch, groups, keys, features]``.
        tables: E over offsets, ``[groups, rpes, *offsets]``.
        grid: Size of the token grid.
        stride: Step between queries.
    """
    fused = _fused(phi_k)
    with torch.autocast(phi_q.device.type, enabled=False):
        if fused is not None:
            scores, encoded = fused.encode(phi_q, phi_k, tables, tuple(grid), stride)
        else:
            kind = _precision(phi_q)
            wide = (phi_q.to(kind), phi_k.to(kind), tables.to(kind))
            scores, encoded = blocked.encode(*wide, tuple(grid), stride)
    return scores.to(phi_q.dtype).contiguous(), encoded.to(_precision(phi_q)).contiguous()


@torch.library.custom_op("attnlab::lisa_dense_scores_backward", mutates_args=())
def lisa_dense_scores_backward(
    grad: Tensor,
    phi_q: Tensor,
    phi_k: Tensor,
    tables: Tensor,
    encoded: Tensor,
    grid: list[int],
    stride: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of phi_q, phi_k and tables."""
    given, fused = (phi_q, phi_k, tables), _fused(phi_k)
    with torch.autocast(grad.device.type, enabled=False):
        if fused is not None:
            grads = fused.encode_backward(grad, *given, encoded, tuple(grid), stride)
        else:
            kind = encoded.dtype
            grad, phi_q, phi_k, tables = (item.to(kind) for item in (grad, *given))
            wide = (grad, phi_q, phi_k, tables, encoded)
            grads = blocked.encode_backward(*wide, tuple(grid), stride)
    typed = (grad.to(tensor.dtype) for grad, tensor in zip(grads, given, strict=True))
    of_q, of_k, of_tables = (grad.contiguous() for grad in typed)
    return of_q, of_k, of_tables


@torch.library.custom_op("attnlab::lisa_dense_mix", mutates_args=())
def lisa_dense_mix(
    scores: Tensor,
    values: Tensor,
    tables: Tensor,
    phi_q: Tensor | None,
    phi_k: Tensor | None,
    grid: list[int],
    stride: int,
) -> Tensor:
    """Return sum_m kappa_nm v_m with kappa_nm = sum_r s_nr P_r[d], times phi_q . phi_k if given.

    The heads of the result lie side by side at every token.

    Args:
        scores: s, ``[batch, heads, queries, rpes]``.
        values: v, ``[batch, heads, keys, value_dim]``.
        tables: P over offsets, ``[heads, rpes, *offsets]``.
        phi_q: ``[batch, heads, queries, features]``.
        phi_k: ``[batch, groups, keys, features]``.
        grid: Size of the token grid.
        stride: Step between queries.
    """
    inputs, fused = Inputs(scores, values, tables, phi_q, phi_k), _fused(values, phi_k)
    with torch.autocast(values.device.type, enabled=False):
        if fused is not None:
            out = fused.forward(inputs, tuple(grid), stride)
        else:
            out = blocked.forward(_wide(inputs), tuple(grid), stride)
    return _heads_beside(out.to(values.dtype))


@torch.library.custom_op("attnlab::lisa_dense_mix_backward", mutates_args=())
def lisa_dense_mix_backward(
    grad: Tensor,
    scores: Tensor,
    values: Tensor,
    tables: Tensor,
    phi_q: Tensor | None,
    phi_k: Tensor | None,
    grid: list[int],
    stride: int,
) -> list[Tensor]:
    """Return the gradients of scores, values, tables and, where given, phi_q and phi_k."""
    inputs, fused = Inputs(scores, values, tables, phi_q, phi_k), _fused(values, phi_k)
    with torch.autocast(values.device.type, enabled=False):
        if fused is not None:
            grads = fused.backward(grad, inputs, tuple(grid), stride)
        else:
            wide = _wide(inputs)
            grads = blocked.backward(grad.to(wide.values.dtype), wide, tuple(grid), stride)
    typed = [
        item.to(like.dtype)
        for item, like in zip(grads, inputs, strict=True)
        if item is not None and like is not None
    ]
    return [item.contiguous() if i != 1 else _heads_beside(item) for i, item in enumerate(typed)]


def _precision(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _wide(inputs: Inputs) -> Inputs:
    kind = _precision(inputs.values)
    wide: Any = (None if tensor is None else tensor.to(kind) for tensor in inputs)
    return Inputs(*wide)


def _heads_beside(tokens: Tensor) -> Tensor:
    """Return ``[batch, heads, tokens, channels]``, a token's heads side by side in memory."""
    return tokens.transpose(1, 2).contiguous().transpose(1, 2)


def _fused(values: Tensor, phi_k: Tensor | None = None) -> ModuleType | None:
    """Return the fused kernels if they serve this case."""
    widest = max(values.shape[-1], 0 if phi_k is None else phi_k.shape[-1])
    served = values.device.type == "cuda" and values.dtype != torch.float64 and widest <= _WIDEST
    if not served or importlib.util.find_spec("triton") is None:
        return None
    # Only here: triton takes long to import, and is absent where there is no CUDA.
    return importlib.import_module("attnlab.operators.lisa.fused")


@lisa_dense_scores.register_fake
def _(
    phi_q: Tensor, phi_k: Tensor, tables: Tensor, grid: list[int], stride: int
) -> tuple[Tensor, Tensor]:
    rpes, (batch, groups, _, features) = tables.shape[1], phi_k.shape
    encoded = (batch, groups, phi_q.shape[2], rpes, features)
    scores = phi_q.new_empty(*phi_q.shape[:3], rpes)
    return scores, phi_k.new_empty(encoded, dtype=_precision(phi_q))


@lisa_dense_scores_backward.register_fake
def _(
    grad: Tensor, phi_q: Tensor, phi_k: Tensor, tables: Tensor, *rest: object
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        phi_q.new_empty(phi_q.shape),
        phi_k.new_empty(phi_k.shape),
        tables.new_empty(tables.shape),
    )


@lisa_dense_mix.register_fake
def _(scores: Tensor, values: Tensor, *rest: object) -> Tensor:
    return _heads_beside(values.new_empty(*scores.shape[:3], values.shape[-1]))


@lisa_dense_mix_backward.register_fake
def _(
    grad: Tensor,
    scores: Tensor,
    values: Tensor,
    tables: Tensor,
    phi_q: Tensor | None,
    phi_k: Tensor | None,
    *rest: object,
) -> list[Tensor]:
    given = (scores, values, tables, phi_q, phi_k)
    fakes = [tensor.new_empty(tensor.shape) for tensor in given if tensor is not None]
    return [fakes[0], _heads_beside(fakes[1]), *fakes[2:]]


def _save(ctx: FunctionCtx, inputs: tuple[object, ...], output: object) -> None:
    *tensors, ctx.grid, ctx.stride = inputs  # type: ignore[attr-defined]
    encoded = [output[1]] if isinstance(output, tuple) else []
    ctx.save_for_backward(*tensors, *encoded)  # type: ignore[arg-type]
    ctx.set_materialize_grads(False)  # nothing flows back into what only serves the backward


def _scores_backward(
    ctx: FunctionCtx, grad: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    place = (ctx.grid, ctx.stride)  # type: ignore[attr-defined]
    return *lisa_dense_scores_backward(grad, *ctx.saved_tensors, *place), None, None  # type: ignore[attr-defined]


def _mix_backward(ctx: FunctionCtx, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 7
    place = (ctx.grid, ctx.stride)  # type: ignore[attr-defined]
    grads = lisa_dense_mix_backward(grad, *ctx.saved_tensors, *place)  # type: ignore[attr-defined]
    return *grads, *(None,) * (7 - len(grads))


lisa_dense_scores.register_autograd(_scores_backward, setup_context=_save)
lisa_dense_mix.register_autograd(_mix_backward, setup_context=_save)


@register_flop_formula(torch.ops.attnlab.lisa_dense_scores)
def _(
    phi_q: torch.Size, phi_k: torch.Size, tables: torch.Size, *rest: object, **options: object
) -> int:
    queries, rpes = phi_q[2], tables[1]
    return 2 * queries * rpes * (math.prod(phi_k) + phi_q[0] * phi_q[1] * phi_q[3])


@register_flop_formula(torch.ops.attnlab.lisa_dense_mix)
def _(
    scores: torch.Size,
    values: torch.Size,
    tables: torch.Size,
    phi_q: torch.Size | None,
    *rest: object,
    **options: object,
) -> int:
    each = scores[-1] + values[-1] + (0 if phi_q is None else phi_q[-1])
    return 2 * math.prod(scores[:3]) * values[2] * each
