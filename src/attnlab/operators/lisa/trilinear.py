"""The sums behind LiSA's fast form, and all their derivatives, by packed complex transforms.

Both halves of the operator are derivatives of one form, linear in each of its four arguments::

    T(s, y, v, P) = sum_{n,r,c} s[n, r] y[n, c] (P_r * v_c)[n]

`compose` is dT/dy (values weighted by scores) and `encode` is dT/ds (queries against encoded
keys); whatever either passes back is another derivative of T. As P is real, a pair of channels
v_c + i v_c' is one complex map: its transform times that of P is the transform of both
convolutions, so real maps cost half a complex transform each, without unpacking.

Spectra P^ come divided by their number of points, which inverse transforms then need not do. Maps
are handled in tiles whose spectra stay in the cache, one table at a time.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from attnlab.operators.base import Grid

Scores = Float[Tensor, "batch groups shared queries rpes"]
Tokens = Float[Tensor, "batch groups shared queries channels"]
Values = Float[Tensor, "batch groups keys channels"]
Spectra = Complex[Tensor, "groups rpes *buffer"]
Kept = Complex[Tensor, "_rpes _batch _groups _pairs *_out"]

TILE_BYTES = {"cpu": 2**22}
"""Spectra in one tile: what fits a core's share of the cache, by measurement; elsewhere 256 MiB."""


class Lattice(NamedTuple):
    """Where tokens lie and how far they are padded.

    Attributes:
        grid: Tokens of the values.
        buffer: Points of a transform; at least 2 n - 1 on an axis, or n where tables wrap round.
        stride: Step between the tokens of scores and results.
        periodic: Tables wrap round the grid and have its size.
        kept: Fraction of the frequencies kept on each axis, the lowest.
    """

    grid: Grid
    buffer: Grid
    stride: int = 1
    periodic: bool = False
    kept: float = 1.0

    @property
    def out(self) -> Grid:
        """Tokens of scores and results."""
        return tuple(math.ceil(size / self.stride) for size in self.grid)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of the grid, counted from the last."""
        return tuple(range(-len(self.grid), 0))

    def inside(self, buffers: Tensor, stride: int = 1) -> Tensor:
        """Return the view of a buffer on the tokens."""
        outer = [slice(None)] * (buffers.ndim - len(self.grid))
        return buffers[*outer, *(slice(0, size, stride) for size in self.grid)]

    def pairs(self, tokens: Tensor, grid: Grid) -> Tensor:
        """View ``[..., tokens, channels]`` as complex maps ``[..., pairs, *grid]``, copy if needed.

        An odd number of channels is filled up with zeros.
        """
        if tokens.shape[-1] % 2:
            tokens = torch.nn.functional.pad(tokens, (0, 1))
        *steps, dense = tokens.stride()
        if dense != 1 or any(step % 2 for step in (*steps, tokens.storage_offset())):
            tokens = tokens.clone(memory_format=torch.contiguous_format)
        paired = torch.view_as_complex(torch.unflatten(tokens, -1, (-1, 2)))
        return torch.unflatten(paired, -2, grid).movedim(-1, -1 - len(grid))

    def tiles(self, values: Tensor) -> Iterator[tuple[slice, slice, slice]]:
        """Cut complex maps ``[batch, groups, pairs, ...]`` into pieces of `TILE_BYTES`."""
        budget = TILE_BYTES.get(values.device.type, 2**28)
        maps = budget // (math.prod(self.buffer) * values.dtype.itemsize)
        ranges: list[list[slice]] = []
        for size in reversed(values.shape[:3]):
            pieces = max(1, math.ceil(size / max(1, maps)))
            length = max(1, math.ceil(size / pieces))  # of one size, where that is possible
            maps //= length
            ranges.insert(0, [slice(i, min(size, i + length)) for i in range(0, size, length)])
        yield from itertools.product(*ranges)


def _weights(scores: Scores, out: Grid) -> Complex[Tensor, "rpes batch groups shared 1 *out"]:
    """Lay scores out as complex maps without imaginary part: products of equal types are faster."""
    laid = torch.unflatten(scores.movedim(-1, 0), -1, out).unsqueeze(4)
    weights = torch.zeros(laid.shape, dtype=scores.dtype.to_complex(), device=scores.device)
    weights.real.copy_(laid)
    return weights


class _Padding:
    """Buffers that are zero round the tokens, kept from tile to tile: only tokens are rewritten."""

    def __init__(self, lattice: Lattice, stride: int = 1) -> None:
        self.lattice = lattice
        self.stride = stride
        self.buffers: Tensor | None = None

    def room(self, outer: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
        """Return buffers for that many maps, and their view on the tokens, to be overwritten."""
        shape = (*outer, *self.lattice.buffer)
        if self.buffers is None or self.buffers.shape != shape:
            self.buffers = like.new_zeros(shape)
        return self.buffers, self.lattice.inside(self.buffers, self.stride)

    def transform(self, maps: Tensor) -> Tensor:
        """Pad and transform."""
        buffers, inside = self.room(maps.shape[: -len(self.lattice.grid)], maps)
        inside.copy_(maps)
        spectrum: Tensor = torch.fft.fftn(buffers, dim=self.lattice.axes)
        return spectrum


def _plus(total: Tensor | None, x: Tensor, y: Tensor) -> Tensor:
    """Return total + x y, in the place of `total`."""
    return x * y if total is None else total.addcmul_(x, y)


def _convolved(spectrum: Tensor, tables: Tensor, lattice: Lattice) -> Iterator[Tensor]:
    """Yield (P_r * v) at the output tokens for r = 0..R-1, as complex maps, given that of v."""
    product = torch.empty_like(spectrum)
    for table in tables.unsqueeze(2).unbind(1):
        torch.mul(spectrum, table, out=product)
        maps = torch.fft.ifftn(product, dim=lattice.axes, norm="forward")
        yield lattice.inside(maps, lattice.stride)


def _dot(x: Tensor, y: Tensor, axes: int) -> Tensor:
    """Sum the real products of complex maps over their pairs of channels."""
    products = torch.view_as_real(x).flatten(-1 - axes) * torch.view_as_real(y).flatten(-1 - axes)
    return torch.unflatten(products.sum(-2), -1, (-1, 2)).sum(-1)


def _room(values: Tensor, spectra: Tensor, lattice: Lattice, keep: bool) -> Kept:
    """Return room for all (P_r * v), or none."""
    shape = (spectra.shape[1], *values.shape[:3], *lattice.out)
    return values.new_empty(shape if keep else [0] * len(shape))


def compose(
    scores: Scores, values: Values, spectra: Spectra, lattice: Lattice, keep: bool
) -> tuple[Float[Tensor, "batch queries groups shared channels"], Kept]:
    """Return y[n] = sum_r s[n, r] (P_r * v)[n], and all P_r * v if they are to be kept."""
    batch, groups, shared, queries, _ = scores.shape
    v, weights = lattice.pairs(values, lattice.grid), _weights(scores, lattice.out)
    kept = _room(v, spectra, lattice, keep)
    result = values.new_empty(batch, queries, groups, shared, 2 * v.shape[2])
    target = lattice.pairs(result.movedim(1, 3), lattice.out)
    padding = _Padding(lattice)
    for b, g, c in lattice.tiles(v):
        total: Tensor | None = None
        found = _convolved(padding.transform(v[b, g, c]), spectra[g], lattice)
        for r, maps in enumerate(found):
            if keep:
                kept[r, b, g, c] = maps
            near = kept[r, b, g, c] if keep else maps
            total = _plus(total, weights[r, b, g], near.unsqueeze(2))
        assert total is not None
        target[b, g, :, c] = total
    return result[..., : values.shape[-1]].contiguous(), kept


def encode(
    queries: Tokens, values: Values, spectra: Spectra, lattice: Lattice, keep: bool
) -> tuple[Float[Tensor, "rpes batch groups shared queries"], Kept]:
    """Return s[n, r] = sum_c y[n, c] (P_r * v_c)[n], and all P_r * v if they are to be kept."""
    v, y = lattice.pairs(values, lattice.grid), lattice.pairs(queries, lattice.out)
    kept = _room(v, spectra, lattice, keep)
    scores = queries.new_zeros(spectra.shape[1], *queries.shape[:-1])
    padding = _Padding(lattice)
    for b, g, c in lattice.tiles(v):
        facing = y[b, g, :, c].contiguous()
        found = _convolved(padding.transform(v[b, g, c]), spectra[g], lattice)
        for r, maps in enumerate(found):
            if keep:
                kept[r, b, g, c] = maps
            scores[r, b, g] += _dot(facing, maps.unsqueeze(2), len(lattice.grid))
    return scores, kept


class Derivatives(NamedTuple):
    """Derivatives of T that a backward needs.

    Attributes:
        values: dT/dv, ``[B, m, g, c]``.
        spectra: dT/dP^, ``[g, R, *buffer]``.
        other: dT/ds, ``[R, B, g, p, n]``, or dT/dy, ``[B, n, g, p, c]``.
    """

    values: Tensor
    spectra: Tensor
    other: Tensor


def derivatives(
    scores: Scores,
    tokens: Tokens,
    values: Values,
    spectra: Spectra,
    kept: Kept,
    lattice: Lattice,
    *,
    of_scores: bool,
) -> Derivatives:
    """Return dT/dv, dT/dP^ and dT/ds (`of_scores`) or dT/dy."""
    batch, groups, shared, queries, rpes = scores.shape
    v, y = lattice.pairs(values, lattice.grid), lattice.pairs(tokens, lattice.out)
    weights, conjugate = _weights(scores, lattice.out), spectra.conj().resolve_conj()
    width, channels = 2 * v.shape[2], values.shape[-1]
    by_values = values.new_empty(batch, values.shape[2], groups, width)
    of_v = lattice.pairs(by_values.transpose(1, 2), lattice.grid)
    by_spectra = torch.zeros_like(spectra)
    by_scores = values.new_zeros(rpes, batch, groups, shared, queries)
    by_tokens = values.new_empty(batch, queries, groups, shared, 0 if of_scores else width)
    of_y = lattice.pairs(by_tokens.movedim(1, 3), lattice.out)
    padding, facing_padding = _Padding(lattice), _Padding(lattice, lattice.stride)
    for b, g, c in lattice.tiles(v):
        facing = y[b, g, :, c].contiguous()
        v_hat = padding.transform(v[b, g, c])
        total: Tensor | None = None
        for r, maps in enumerate(
            kept[:, b, g, c] if kept.numel() else _convolved(v_hat, spectra[g], lattice)
        ):
            if of_scores:
                by_scores[r, b, g] += _dot(facing, maps.unsqueeze(2), len(lattice.grid))
            else:
                total = _plus(total, weights[r, b, g], maps.unsqueeze(2))
        if total is not None:
            of_y[b, g, :, c] = total
        of_v[b, g, c] = _adjoint(
            weights[:, b, g], facing, v_hat.conj_physical_(), conjugate[g], by_spectra[g],
            facing_padding,
        )  # fmt: skip
    other = by_scores if of_scores else by_tokens[..., :channels].contiguous()
    return Derivatives(by_values[..., :channels].contiguous(), by_spectra, other)


def _adjoint(
    weights: Tensor,
    facing: Tensor,
    v_hat: Tensor,
    tables: Tensor,
    by_spectra: Tensor,
    padding: _Padding,
) -> Tensor:
    """Return dT/dv of one tile and add its part to that of the spectra.

    Args:
        weights: Scores as complex maps, ``[R, B, g, p, 1, *out]``.
        facing: y as complex maps, ``[B, g, p, pairs, *out]``.
        v_hat: Conjugate spectrum of v, ``[B, g, pairs, *buffer]``.
        tables: Conjugate spectra of P, ``[g, R, *buffer]``.
        by_spectra: Where dT/dP^ of all tiles is summed, as `tables`.
        padding: Buffers for what lies on the output tokens.
    """
    lattice = padding.lattice
    buffers, inside = padding.room(v_hat.shape[:3], facing)
    total: Tensor | None = None
    for r, weight in enumerate(weights):
        if facing.shape[2] == 1:
            torch.mul(weight[:, :, 0], facing[:, :, 0], out=inside)
        else:
            inside.copy_((weight * facing).sum(2))
        spectrum = torch.fft.fftn(buffers, dim=lattice.axes)
        total = _plus(total, spectrum, tables[:, r].unsqueeze(1))
        by_spectra[:, r] += spectrum.mul_(v_hat).sum((0, 2))
    return lattice.inside(torch.fft.ifftn(total, dim=lattice.axes, norm="forward"))
