"""The forms that compute LiSA's structure term: from features and tables to mixed values."""

from typing import NamedTuple

from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa import dense, low_rank, spectral
from attnlab.operators.lisa.factors import unpack
from attnlab.operators.lisa.shapes import Output
from attnlab.operators.lisa.trilinear import Lattice


class Features(NamedTuple):
    """What the tokens contribute.

    Attributes:
        phi_q: Query features, ``[B, h, n, c]``.
        phi_k: Key features, ``[B, g, m, c]``.
        v: Values, ``[B, h, m, d]``.
        prior: q_n . w_r, or the scores of the variant ``mask``, ``[B, h, n, R]``.
    """

    phi_q: Tensor
    phi_k: Tensor
    v: Tensor
    prior: Tensor


def mix_dense(
    features: Features,
    tables: dict[str, Tensor],
    activation: str,
    *,
    grid: Grid,
    stride: int,
    split: bool = False,
) -> Output:
    """Mix by sums over all pairs of tokens, O(N^2).

    Args:
        features: Of the tokens.
        tables: ``composing`` and, in the variant ``pattern``, ``encoding``, full.
        activation: Key of `kernels.ACTIVATIONS`.
        grid: Size of the token grid.
        stride: Step between output tokens.
        split: Pattern r acts on its own slice of the value channels only.
    """
    mix = dense.pattern if "encoding" in tables else dense.mask
    return mix(*features, **tables, activation=activation, grid=grid, stride=stride, split=split)


def mix_spectral(
    features: Features,
    spectra: dict[str, Tensor],
    activation: str,
    *,
    lattice: Lattice,
    split: bool,
) -> Output:
    """Mix by Fourier transforms, O(R N log N).

    Args:
        features: Of the tokens.
        spectra: Of the tables, see `spectral.table_spectra`.
        activation: Key of `kernels.ACTIVATIONS`.
        lattice: Grid, buffers and stride.
        split: Pattern r acts on its own slice of the value channels only.
    """
    mix = spectral.pattern if "encoding" in spectra else spectral.mask
    return mix(*features, **spectra, activation=activation, lattice=lattice, split=split)


def mix_low_rank(
    features: Features, tables: dict[str, Tensor], activation: str, *, grid: Grid, stride: int
) -> Output:
    """Mix by Toeplitz matrices of one axis, O(rank R N (H + W)).

    Args:
        features: Of the tokens.
        tables: As in `mix_dense`, as packed factors.
        activation: Key of `kernels.ACTIVATIONS`.
        grid: Size of the token grid.
        stride: Step between output tokens.
    """
    composing = unpack(tables["composing"], grid)
    if "encoding" not in tables:
        return low_rank.mask(*features, composing, activation, grid=grid, stride=stride)
    encoding = unpack(tables["encoding"], grid)
    return low_rank.pattern(*features, encoding, composing, activation, grid=grid, stride=stride)


TABLE_FORMS = {"none": mix_dense, "low_rank": mix_low_rank}
"""Forms that take the tables themselves, by `approximation`; all others take their spectra."""
