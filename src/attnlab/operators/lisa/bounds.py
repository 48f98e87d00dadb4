"""Bounds on the spectral norm of T(P), hence on what an approximation of a table can change.

T(P) is a block of the circulant matrix of P in a 2H x 2W buffer, whose eigenvalues are the values
P^(w) of the zero-padded DFT. A block is no larger than its matrix: ||T(P)||_2 <= max_w |P^(w)|.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa.tables import low_pass

Tables = Float[Tensor, "rows rpes *offsets"]
PerTable = Float[Tensor, "rows rpes"]


def _moduli(tables: Tables, grid: Grid) -> Float[Tensor, "rows rpes *frequencies"]:
    """Return |P^(w)| in the layout of ``fftn``; where the buffer holds P changes no modulus."""
    sizes, axes = [2 * size for size in grid], tuple(range(2, tables.ndim))
    spectra: Tensor = torch.fft.fftn(tables, s=sizes, dim=axes)
    return spectra.abs()


def operator_norm_bound(tables: Tables, grid: Grid) -> PerTable:
    """Return max_w |P^(w)| >= ||T(P)||_2 per table.

    Given P - P~, T being linear, it bounds the error of an approximation P~.

    Args:
        tables: Full tables for `grid`.
        grid: Size of the token grid.
    """
    return _moduli(tables, grid).flatten(2).amax(2)


def truncation_bound(tables: Tables, grid: Grid, kept: float) -> PerTable:
    """Bound ||T(P) - T(P~)||_2 for P~ of ``truncated``: max |P^(w)| over the dropped w.

    Args:
        tables: Full tables for `grid`.
        grid: Size of the token grid.
        kept: Fraction of the frequencies kept on each axis.
    """
    keep = low_pass(tuple(2 * size for size in grid), kept, tables.device)
    return (_moduli(tables, grid) * (1 - keep)).flatten(2).amax(2)


def separable_bound(factors: Sequence[Float[Tensor, "rows rpes rank _"]]) -> PerTable:
    """Return sum_i prod_axis max_w |f_i^(w)| >= ||T(sum_i u_i x v_i)||_2 per table.

    Looser than `operator_norm_bound` of the sum, but of one-dimensional transforms only; of the
    terms left out it bounds the error.

    Args:
        factors: One function of the offset per axis and term, see `factors.full_tables`.
    """
    if not factors[0].shape[2]:  # no transform takes nothing
        return factors[0].sum((2, 3))
    peaks = [torch.fft.rfft(factor, n=factor.shape[-1] + 1).abs().amax(-1) for factor in factors]
    return torch.stack(peaks).prod(0).sum(-1)
