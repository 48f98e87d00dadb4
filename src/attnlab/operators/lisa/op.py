"""LiSA's fast form as PyTorch operators with their own backward.

``attnlab::lisa_spectra`` transforms tables, ``attnlab::lisa_compose`` and ``attnlab::lisa_encode``
are the two halves of the operator. Each is one opaque node for `torch.compile` and
`torch.export`; spectra cross their borders as pairs of real numbers, for compilers do not know
complex ones.
"""

import math
from typing import Any

import torch
from torch import Tensor

from attnlab.operators.lisa import trilinear
from attnlab.operators.lisa.tables import crop, low_pass, place
from attnlab.operators.lisa.trilinear import Lattice


def _wide(x: Tensor) -> Tensor:
    """No FFT exists in bfloat16, and in float16 only for powers of two on CUDA."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _lattice(grid: list[int], buffer: list[int], stride: int) -> Lattice:
    return Lattice(tuple(grid), tuple(buffer), stride)


def _mask(spectra: Tensor, kept: float) -> Tensor:
    """Zero the highest frequencies, in place."""
    return spectra if kept >= 1 else spectra.mul_(low_pass(spectra.shape[2:], kept, spectra.device))


@torch.library.custom_op("attnlab::lisa_spectra", mutates_args=())
def lisa_spectra(tables: Tensor, buffer: list[int], periodic: bool, kept: float) -> Tensor:
    """Return the transforms of full tables in a padded buffer, or of periodic ones as they lie.

    Args:
        tables: ``[rows, rpes, *offsets]``.
        buffer: Points of the transform on each axis.
        periodic: The tables have the buffer's size already.
        kept: Fraction of the frequencies kept on each axis, the lowest; the others become zero.

    Returns:
        ``[rows, rpes, *buffer, 2]``, real and imaginary parts over the number of points, in float32
        at least.
    """
    placed = _wide(tables) if periodic else place(_wide(tables), tuple(buffer))
    spectra = torch.fft.fftn(placed, dim=tuple(range(2, placed.ndim)), norm="forward")
    return torch.view_as_real(_mask(spectra, kept))


@torch.library.custom_op("attnlab::lisa_spectra_backward", mutates_args=())
def lisa_spectra_backward(
    grad: Tensor, offsets: list[int], periodic: bool, kept: float, like: Tensor
) -> Tensor:
    """Return the gradient of the tables, in the type of `like`."""
    spectra = _mask(torch.view_as_complex(grad.contiguous()).clone(), kept)
    placed = torch.fft.ifftn(spectra, dim=tuple(range(2, spectra.ndim))).real
    tables = placed if periodic else crop(placed, tuple(offsets))
    return tables.to(like.dtype).contiguous()


@lisa_spectra.register_fake
def _(tables: Tensor, buffer: list[int], periodic: bool, kept: float) -> Tensor:
    return _wide(tables).new_empty(*tables.shape[:2], *buffer, 2)


@lisa_spectra_backward.register_fake
def _(grad: Tensor, offsets: list[int], periodic: bool, kept: float, like: Tensor) -> Tensor:
    return like.new_empty(*grad.shape[:2], *offsets)


@torch.library.custom_op("attnlab::lisa_compose", mutates_args=())
def lisa_compose(
    scores: Tensor,
    values: Tensor,
    spectra: Tensor,
    grid: list[int],
    buffer: list[int],
    stride: int,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Return sum_r s[n, r] (P_r * v)[n] as ``[B, n, g, p, c]``, and the P_r * v kept.

    Args:
        scores: s, ``[B, g, p, n, R]``; p sets of scores share the values of a group.
        values: v, ``[B, g, m, c]``.
        spectra: Of P, see `lisa_spectra`, ``[g, R, *buffer, 2]``.
        grid: Size of the token grid.
        buffer: Points of the transform on each axis.
        stride: Step between the tokens n.
        keep: Whether a backward follows that finds room for all P_r * v.
    """
    lattice = _lattice(grid, buffer, stride)
    total, kept = trilinear.compose(
        _wide(scores), _wide(values), torch.view_as_complex(spectra), lattice, keep
    )
    return total.to(values.dtype), torch.view_as_real(kept)


@torch.library.custom_op("attnlab::lisa_encode", mutates_args=())
def lisa_encode(
    queries: Tensor,
    values: Tensor,
    spectra: Tensor,
    grid: list[int],
    buffer: list[int],
    stride: int,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Return sum_c q[n, c] (E_r * v_c)[n] as ``[R, B, g, p, n]``, and the E_r * v kept.

    Args:
        queries: q, ``[B, g, p, n, c]``; p sets of queries share the values of a group.
        values: v, ``[B, g, m, c]``.
        spectra: Of E, ``[g, R, *buffer, 2]``.
        grid: As in `lisa_compose`, like what follows.
        buffer: Points of the transform on each axis.
        stride: Step between the tokens n.
        keep: Whether a backward follows that finds room for all E_r * v.
    """
    lattice = _lattice(grid, buffer, stride)
    scores, kept = trilinear.encode(
        _wide(queries), _wide(values), torch.view_as_complex(spectra), lattice, keep
    )
    return scores.to(values.dtype), torch.view_as_real(kept)


@torch.library.custom_op("attnlab::lisa_derivatives", mutates_args=())
def lisa_derivatives(
    scores: Tensor,
    tokens: Tensor,
    values: Tensor,
    spectra: Tensor,
    kept: Tensor,
    grid: list[int],
    buffer: list[int],
    stride: int,
    of_scores: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dT/dv ``[B, m, g, c]``, dT/dP^ and dT/ds or dT/dy, see `trilinear.derivatives`."""
    by = trilinear.derivatives(
        _wide(scores),
        _wide(tokens),
        _wide(values),
        torch.view_as_complex(spectra),
        torch.view_as_complex(kept),
        _lattice(grid, buffer, stride),
        of_scores=of_scores,
    )
    dtype = values.dtype
    return by.values.to(dtype), torch.view_as_real(by.spectra), by.other.to(dtype)


def _kept(
    values: Tensor, spectra: Tensor, grid: list[int], buffer: list[int], stride: int, keep: bool
) -> Tensor:
    """Return what a fake operator keeps."""
    batch, groups, _, channels = values.shape
    out = [math.ceil(size / stride) for size in grid]
    shape = [spectra.shape[1], batch, groups, (channels + 1) // 2, *out]
    return spectra.new_empty([*(shape if keep else [0] * len(shape)), 2])


@lisa_compose.register_fake
def _(scores: Tensor, values: Tensor, spectra: Tensor, *how: Any) -> tuple[Tensor, Tensor]:
    batch, groups, shared, queries, _ = scores.shape
    total = values.new_empty(batch, queries, groups, shared, values.shape[-1])
    return total, _kept(values, spectra, *how)


@lisa_encode.register_fake
def _(queries: Tensor, values: Tensor, spectra: Tensor, *how: Any) -> tuple[Tensor, Tensor]:
    scores = values.new_empty(spectra.shape[1], *queries.shape[:-1])
    return scores, _kept(values, spectra, *how)


@lisa_derivatives.register_fake
def _(
    scores: Tensor, tokens: Tensor, values: Tensor, spectra: Tensor, *how: Any
) -> tuple[Tensor, Tensor, Tensor]:
    batch, groups, shared, queries, rpes = scores.shape
    keys, channels = values.shape[2:]
    of_scores_shape = (rpes, batch, groups, shared, queries)
    of_tokens_shape = (batch, queries, groups, shared, channels)
    *_, of_scores = how
    return (
        values.new_empty(batch, keys, groups, channels),
        spectra.new_empty(spectra.shape),
        values.new_empty(of_scores_shape if of_scores else of_tokens_shape),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    first, values, spectra, *geometry, _ = inputs
    ctx.geometry = tuple(geometry)
    ctx.save_for_backward(first, values, spectra, output[1])
    ctx.set_materialize_grads(False)  # nothing flows back into what only serves the backward


def _compose_backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 7
    scores, *saved = ctx.saved_tensors
    by_values, by_spectra, by_scores = lisa_derivatives(
        scores, grad.movedim(1, 3), *saved, *ctx.geometry, True
    )
    return by_scores.movedim(0, -1), by_values.transpose(1, 2), by_spectra, *(None,) * 4


def _encode_backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 7
    by_values, by_spectra, by_queries = lisa_derivatives(
        grad.movedim(0, -1), *ctx.saved_tensors, *ctx.geometry, False
    )
    return by_queries.movedim(1, 3), by_values.transpose(1, 2), by_spectra, *(None,) * 4


def _setup_spectra(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tables, _, *options = inputs
    ctx.offsets, ctx.geometry = list(tables.shape[2:]), tuple(options)
    ctx.save_for_backward(tables.new_empty(0))


def _spectra_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    tables = lisa_spectra_backward(grad, ctx.offsets, *ctx.geometry, *ctx.saved_tensors)
    return tables, None, None, None


lisa_spectra.register_autograd(_spectra_backward, setup_context=_setup_spectra)
lisa_compose.register_autograd(_compose_backward, setup_context=_setup)
lisa_encode.register_autograd(_encode_backward, setup_context=_setup)
