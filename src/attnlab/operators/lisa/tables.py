"""RPE tables: initialisation, Toeplitz matrices, FFT buffers and other grids; any number of axes.

A table P holds one value per offset d = p(n) - p(m). A full table has 2H-1 entries on an axis,
d = -(H-1)..H-1 in order; a periodic table (``circular``) has H, d at index d mod H.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid


def gaussian_tables(
    rows: int, rpes: int, grid: Grid, *, periodic: bool
) -> Float[Tensor, "{rows} {rpes} *offsets"]:
    """Draw tables: truncated normal (std 0.02, cut at two std) under a Gaussian envelope.

    The width of the envelope runs from 1 token to half the longest axis, log-spaced over the
    RPEs, which breaks the symmetry between them.
    """
    axes = [_distances(size, periodic) for size in grid]
    squared = sum(d.square() for d in torch.meshgrid(*axes, indexing="ij"))
    widths = envelope_widths(rpes, grid).view(-1, *[1] * len(grid))
    tables = torch.empty(rows, rpes, *(len(axis) for axis in axes))
    torch.nn.init.trunc_normal_(tables, std=0.02, a=-0.04, b=0.04)
    return tables * torch.exp(-squared / (2 * widths.square()))


def envelope_widths(rpes: int, grid: Grid) -> Float[Tensor, " {rpes}"]:
    """Return the standard deviation, in tokens, of the Gaussian envelope of each RPE."""
    return torch.logspace(0, math.log10(max(1.0, max(grid) / 2)), rpes)


def _distances(size: int, periodic: bool) -> Float[Tensor, " offsets"]:
    if periodic:
        index = torch.arange(size)
        return torch.minimum(index, size - index).float()
    return torch.arange(1 - size, size).float()


def toeplitz(
    tables: Float[Tensor, "rows rpes *offsets"], grid: Grid, stride: int = 1
) -> Float[Tensor, "rows rpes queries keys"]:
    """Spread full tables into matrices T[n, m] = P[p(n) - p(m)], queries on every stride-th token.

    Row n of an axis is the window of H entries that starts at offset n - (H-1), reversed; windows
    cost no index tensor, and their gradient no scatter.
    """
    for axis, size in enumerate(grid, 2):
        tables = tables.unfold(axis, size, stride)
    flipped = tables.flip(tuple(range(-len(grid), 0)))
    return flipped.reshape(*tables.shape[:2], -1, math.prod(grid))


def place(
    tables: Float[Tensor, "rows rpes *offsets"], buffer: Grid
) -> Float[Tensor, "rows rpes *buffer"]:
    """Put full tables into larger buffers at (d mod size) on every axis; the rest is zero."""
    reach = [size // 2 for size in tables.shape[2:]]
    room = [(0, n - size) for n, size in zip(buffer, tables.shape[2:], strict=True)]
    padded = F.pad(tables, [end for ends in reversed(room) for end in ends])
    return padded.roll([-centre for centre in reach], tuple(range(2, tables.ndim)))


def crop(
    buffers: Float[Tensor, "rows rpes *buffer"], offsets: Grid
) -> Float[Tensor, "rows rpes *offsets"]:
    """Take full tables with that many `offsets` out of buffers: what `place` put there."""
    axes = tuple(range(2, buffers.ndim))
    centred = buffers.roll([size // 2 for size in offsets], axes)
    return centred[:, :, *(slice(size) for size in offsets)]


def low_pass(buffer: Grid, kept: float, device: torch.device) -> Float[Tensor, "*frequencies"]:
    """Return 1 for the lowest fraction `kept` of the frequencies on every axis, 0 for the others.

    The layout is that of ``fftn`` over a buffer of that size.
    """
    steps = [torch.fft.fftfreq(size, 1 / size, device=device) for size in buffer]
    keep = [
        (step.round().abs() <= math.ceil(kept * (size // 2))).float()
        for step, size in zip(steps, buffer, strict=True)
    ]
    return torch.stack(torch.meshgrid(*keep, indexing="ij")).prod(0)


def resize(
    tables: Float[Tensor, "rows rpes *offsets"], old: Grid, new: Grid, *, periodic: bool
) -> Float[Tensor, "rows rpes *new_offsets"]:
    """Interpolate tables from one grid to another, cubically along each axis.

    Over two axes this is bicubic interpolation from 2H-1 to 2H'-1 (pixel centres, as
    ``align_corners=False``); offset zero stays offset zero. A periodic table is read at
    d' H / H', across its seam.
    """
    for axis, (size, new_size) in enumerate(zip(old, new, strict=True), 2):
        if size == new_size:
            continue
        lines = tables.movedim(axis, -1)
        resized = _resize_periodic(lines, new_size) if periodic else _cubic(lines, 2 * new_size - 1)
        tables = resized.movedim(-1, axis)
    return tables


def copy_over_time(
    tables: Float[Tensor, "rows rpes *offsets"], frames: int, *, periodic: bool
) -> Float[Tensor, "rows rpes times *offsets"]:
    """Repeat tables for every offset in time of `frames` frames."""
    times = frames if periodic else 2 * frames - 1
    return tables.unsqueeze(2).repeat(1, 1, times, *[1] * (tables.ndim - 2))


def pictures(
    tables: Float[Tensor, "rows rpes *offsets"], *, periodic: bool
) -> Float[Tensor, "maps height width"]:
    """Return tables with offset zero in the middle; of video the slice at no offset in time."""
    maps = tables.flatten(0, 1)
    if periodic:
        maps = torch.fft.fftshift(maps, dim=tuple(range(1, maps.ndim)))
    return maps if maps.ndim == 3 else maps[:, maps.shape[1] // 2]


def _cubic(
    lines: Float[Tensor, "*rest length"], length: int, *, align_corners: bool = False
) -> Float[Tensor, "*rest {length}"]:
    image = lines.reshape(1, 1, -1, lines.shape[-1])  # each line is an image row, left as it is
    resized = F.interpolate(
        image, size=(image.shape[-2], length), mode="bicubic", align_corners=align_corners
    )
    return resized.reshape(*lines.shape[:-1], length)


def _resize_periodic(
    lines: Float[Tensor, "*rest length"], length: int
) -> Float[Tensor, "*rest {length}"]:
    # Two periods on either side keep the cubic's support off the window's edges.
    size = lines.shape[-1]
    index = torch.arange(-2 * size, 2 * size + 1, device=lines.device) % size
    window = _cubic(lines[..., index], 4 * length + 1, align_corners=True)
    return window[..., 2 * length : 3 * length]
