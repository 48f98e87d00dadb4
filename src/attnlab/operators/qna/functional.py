"""QnA in linear memory: the exponentials are summed over windows, no window is gathered.

With e_n = exp(s_n), the softmax quotient of a window splits into two correlations that share the
offset weights exp(bias): numerator ``sum_n [scale exp(bias)][n - i] e_n v_n`` and denominator
``sum_n [exp(bias)][n - i] e_n``. The derivation and the range in which it is exact are in the
README beside this file.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attnlab.operators.base import Grid

_MATRIX_ELEMENTS = 2**16  # of one offset matrix: 256 KiB per query and head in float32


def scale_queries(
    query: Float[Tensor, "queries width"], heads: int, normalize: bool
) -> Float[Tensor, "queries heads head_dim"]:
    """Split into heads, divide by the Euclidean norm if asked, then by sqrt(head_dim)."""
    query = torch.unflatten(query, -1, (heads, -1))
    if normalize:
        query = query / (torch.linalg.vector_norm(query, dim=-1, keepdim=True) + 1e-6)
    return query / math.sqrt(query.shape[-1])


def project(
    x: Float[Tensor, "batch *grid dim"],
    query: Float[Tensor, "queries heads head_dim"],
    key_weight: Float[Tensor, "width dim"],
    value_weight: Float[Tensor, "width dim"],
    value_bias: Float[Tensor, "width"] | None = None,
) -> tuple[Float[Tensor, "batch *grid queries heads"], Float[Tensor, "batch *grid heads head_dim"]]:
    """Return the scores and the values of all tokens by one matrix product.

    The queries are the same for all tokens, so they are folded into the key projection: the score
    ``q . (W_k x)`` is ``(W_k' q) . x`` and keys never exist.
    """
    queries, heads, head_dim = query.shape
    folded = torch.einsum("lhd,hdc->lhc", query, torch.unflatten(key_weight, 0, (heads, head_dim)))
    both = F.linear(x, torch.cat([folded.flatten(0, 1), value_weight]))
    scores, values = torch.split(both, [queries * heads, heads * head_dim], dim=-1)
    if value_bias is not None:
        values = values + value_bias
    scores = torch.unflatten(scores, -1, (queries, heads))
    return scores, torch.unflatten(values, -1, (heads, head_dim))


def window_count(grid: Grid, kernel_size: int, stride: int, padding: int) -> Grid:
    """Return how many windows there are on each axis.

    Raises:
        ValueError: The padded grid is smaller than one window.
    """
    if min(grid) + 2 * padding < kernel_size:
        raise ValueError(f"{grid=} is smaller than one window of {kernel_size=} with {padding=}")
    return tuple((size + 2 * padding - kernel_size) // stride + 1 for size in grid)


def attend(
    scores: Float[Tensor, "batch *grid queries heads"],
    values: Float[Tensor, "batch *grid heads head_dim"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    kernel_size: int,
    stride: int,
    padding: int,
) -> Float[Tensor, "batch *out heads head_dim"]:
    """Sum the windows by `attend_by_matrix` or `attend_by_convolution`, whichever is faster.

    A matrix product costs the whole grid per token where a convolution costs one window, but does
    so several times faster, above all backward: it wins on grids of up to about two windows.
    """
    grid = tuple(scores.shape[1:-2])
    tokens, windows = math.prod(grid), math.prod(window_count(grid, kernel_size, stride, padding))
    small = tokens <= 2 * bias.shape[0] and tokens * windows <= _MATRIX_ELEMENTS
    form = attend_by_matrix if small else attend_by_convolution
    return form(scores, values, bias, scale, kernel_size, stride, padding)


def attend_by_convolution(
    scores: Float[Tensor, "batch *grid queries heads"],
    values: Float[Tensor, "batch *grid heads head_dim"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    kernel_size: int,
    stride: int,
    padding: int,
) -> Float[Tensor, "batch *out heads head_dim"]:
    """Sum the windows by depth-wise convolutions, in memory independent of the window."""
    rank, (queries, heads, head_dim) = scores.ndim - 3, (*scores.shape[-2:], values.shape[-1])

    def correlate(maps: Tensor, kernel: Tensor) -> Tensor:
        weight = kernel.t().reshape(-1, 1, *[kernel_size] * rank)
        convolve = F.conv2d if rank == 2 else F.conv3d
        out = convolve(
            maps.movedim(-1, 1), weight, stride=stride, padding=padding, groups=maps.shape[-1]
        )
        return out.movedim(1, -1)

    exps, offset = scores.exp(), bias.exp()
    weighted = exps.unsqueeze(-1) * values.unsqueeze(-3)
    denominator = correlate(exps.flatten(-2), offset.flatten(1))
    above = (offset * scale).flatten(1).repeat_interleave(head_dim, 1)
    numerator = correlate(weighted.flatten(-3), above)
    denominator = torch.unflatten(denominator, -1, (queries, heads, 1))
    numerator = torch.unflatten(numerator, -1, (queries, heads, head_dim))
    return (numerator / denominator).sum(-3)


def offset_index(
    grid: Grid, out: Grid, kernel_size: int, stride: int, padding: int, device: torch.device
) -> Int[Tensor, "windows tokens"]:
    """Return which offset of its window each token is at, or the offset count if outside."""
    rank = len(grid)
    index = torch.zeros((), dtype=torch.long, device=device)
    inside = torch.ones((), dtype=torch.bool, device=device)
    for axis, (size, count) in enumerate(zip(grid, out, strict=True)):
        starts = stride * torch.arange(count, device=device) - padding
        offset = torch.arange(size, device=device) - starts[:, None]
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = count, size
        offset = offset.view(shape)
        index = index * kernel_size + offset
        inside = inside & (offset >= 0) & (offset < kernel_size)
    return torch.where(inside, index, kernel_size**rank).flatten(rank).flatten(0, rank - 1)


def attend_by_matrix(
    scores: Float[Tensor, "batch *grid queries heads"],
    values: Float[Tensor, "batch *grid heads head_dim"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    kernel_size: int,
    stride: int,
    padding: int,
) -> Float[Tensor, "batch *out heads head_dim"]:
    """Sum the windows by one matrix of offset weights per query and head, shared by the batch."""
    batch, grid = scores.shape[0], tuple(scores.shape[1:-2])
    queries, heads, head_dim = *scores.shape[-2:], values.shape[-1]
    out = window_count(grid, kernel_size, stride, padding)
    index = offset_index(grid, out, kernel_size, stride, padding, scores.device)
    offset = bias.exp()
    table = torch.stack([offset, offset * scale]).movedim(1, -1)
    matrices = F.pad(table, (0, 1)).index_select(-1, index.flatten())
    below, above = matrices.view(2, queries * heads, *index.shape).mT

    exps = scores.flatten(1, -3).permute(2, 3, 0, 1).exp().contiguous()
    per_head = values.flatten(1, -3).permute(2, 0, 3, 1).contiguous()
    weighted = exps.unsqueeze(-2) * per_head
    denominator = torch.bmm(exps.flatten(0, 1), below)
    numerator = torch.bmm(weighted.flatten(2, 3).flatten(0, 1), above)
    denominator = denominator.view(queries, heads, batch, 1, -1)
    numerator = numerator.view(queries, heads, batch, head_dim, -1)
    mixed = (numerator / denominator).sum(0).permute(1, 3, 0, 2)
    return torch.unflatten(mixed, 1, out)


def attend_stably(
    scores: Float[Tensor, "batch *grid queries heads"],
    values: Float[Tensor, "batch *grid heads head_dim"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    kernel_size: int,
    stride: int,
    padding: int,
) -> Float[Tensor, "batch *out heads head_dim"]:
    """Sum the windows offset by offset, less the maximum of each window: no score is too large."""
    grid = tuple(scores.shape[1:-2])
    out = window_count(grid, kernel_size, stride, padding)
    sides = [padding, padding] * len(grid)
    scores = F.pad(scores, [0, 0, 0, 0, *sides], value=-math.inf)
    values = F.pad(values, [0, 0, 0, 0, *sides])
    offsets = list(itertools.product(range(kernel_size), repeat=len(grid)))

    def shifted(tokens: Tensor, offset: tuple[int, ...]) -> Tensor:
        spans = (
            slice(start, start + stride * (count - 1) + 1, stride)
            for start, count in zip(offset, out, strict=True)
        )
        return tokens[:, *spans]

    with torch.no_grad():
        peak = shifted(scores, offsets[0]) + bias[0]
        for offset, added in zip(offsets[1:], bias[1:], strict=True):
            peak = torch.maximum(peak, shifted(scores, offset) + added)
    denominator = torch.zeros_like(peak)
    numerator = torch.zeros((), dtype=peak.dtype, device=peak.device)
    for offset, added, factor in zip(offsets, bias, scale.expand_as(bias), strict=True):
        weight = (shifted(scores, offset) + added - peak).exp()
        denominator = denominator + weight
        weighted = (weight * factor).unsqueeze(-1) * shifted(values, offset).unsqueeze(-3)
        numerator = numerator + weighted
    return (numerator / denominator.unsqueeze(-1)).sum(-3)
