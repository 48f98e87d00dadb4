"""The operator by fast Fourier transforms, O(R N log N), over any number of grid axes.

`fft` pads to 2H x 2W and equals the dense form; `circular`, `truncated` and `split` run through
the same code with other spectra or other value slices.
"""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa.kernels import ACTIVATIONS, pattern_scores
from attnlab.operators.lisa.tables import low_pass, place

Spectra = Complex[Tensor, "rows rpes *frequencies"]
QueryFeatures = Float[Tensor, "batch heads queries features"]
KeyFeatures = Float[Tensor, "batch groups keys features"]
Values = Float[Tensor, "batch heads keys value_dim"]
Prior = Float[Tensor, "batch heads queries rpes"]
Output = Float[Tensor, "batch heads queries value_dim"]


def _wide(x: Tensor) -> Tensor:
    """No FFT exists in bfloat16, and in float16 only for powers of two on CUDA."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _buffer_size(grid: Grid, periodic: bool) -> Grid:
    return grid if periodic else tuple(2 * length for length in grid)


def table_spectra(
    tables: Float[Tensor, "rows rpes *offsets"],
    grid: Grid,
    *,
    periodic: bool = False,
    kept: float = 1.0,
) -> Spectra:
    """Return the real-input spectra of full tables in 2H x 2W, or of periodic ones in H x W.

    Args:
        tables: Full or, with `periodic`, periodic tables for `grid`.
        grid: Size of the token grid.
        periodic: The tables wrap round the grid.
        kept: Fraction of the frequencies kept on each axis, the lowest; the others become zero.
    """
    buffers = _wide(tables if periodic else place(tables, grid))
    spectra: Tensor = torch.fft.rfftn(buffers, dim=tuple(range(2, buffers.ndim)))
    if kept < 1:
        spectra = spectra * low_pass(tuple(buffers.shape[2:]), kept, spectra.device)
    return spectra


def convolve(
    maps: Float[Tensor, "batch rows #rpes channels keys"],
    spectra: Spectra,
    grid: Grid,
    stride: int = 1,
    *,
    periodic: bool = False,
) -> Float[Tensor, "batch rows rpes channels queries"]:
    """Return (P_r * x)[n] = sum_m P_r[p(n) - p(m)] x[m] for every table, row and channel.

    Args:
        maps: x, with one map for all the R tables of a row or one for each.
        spectra: Result of `table_spectra` with the same `periodic`.
        grid: Size of the token grid, prod(grid) = keys.
        stride: Step between the tokens n.
        periodic: Wrap round the grid in place of padding it with zeros.
    """
    axes = tuple(range(-len(grid), 0))
    size = _buffer_size(grid, periodic)
    with torch.autocast(maps.device.type, enabled=False):
        x = torch.fft.rfftn(torch.unflatten(_wide(maps), -1, grid), s=size, dim=axes)
        y: Tensor = torch.fft.irfftn(spectra.unsqueeze(2) * x, s=size, dim=axes)
    y = y[(*[slice(None)] * 4, *(slice(0, length, stride) for length in grid))]
    return y.flatten(-len(grid)).to(maps.dtype)


def _values(v: Values, rpes: int, split: bool) -> Float[Tensor, "batch heads #rpes slice keys"]:
    """Lay the value channels out as one slice for all RPEs, or one slice each."""
    return torch.unflatten(v.mT, 2, (rpes if split else 1, -1))


def _compose(
    scores: Prior, maps: Float[Tensor, "batch heads rpes slice queries"], split: bool
) -> Output:
    """Weight the convolved values by the scores and sum them, or join their slices."""
    weighted = scores.mT.unsqueeze(3) * maps
    return (weighted.flatten(2, 3) if split else weighted.sum(2)).mT


def pattern(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    encoding: Spectra,
    composing: Spectra,
    activation: str = "identity",
    *,
    grid: Grid,
    stride: int = 1,
    periodic: bool = False,
    split: bool = False,
) -> Output:
    """Return sum_m (sum_r s_nr P_r[p(n) - p(m)]) v_m, with s as in `pattern_scores`.

    Args:
        phi_q: Query features, at the output tokens.
        phi_k: Key features, at all tokens.
        v: Values, at all tokens.
        prior: q_n . w_r, added to the scores.
        encoding: Spectra of E, see `table_spectra`.
        composing: Spectra of P.
        activation: Key of `ACTIVATIONS`.
        grid: Size of the token grid.
        stride: Step between output tokens.
        periodic: The tables wrap round the grid.
        split: Pattern r acts on its own slice of the value channels only.
    """
    encoded_keys = convolve(phi_k.mT.unsqueeze(2), encoding, grid, stride, periodic=periodic)
    scores = pattern_scores(phi_q, encoded_keys, prior, activation)
    values = _values(v, composing.shape[1], split)
    return _compose(scores, convolve(values, composing, grid, stride, periodic=periodic), split)


def mask(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    composing: Spectra,
    activation: str = "identity",
    *,
    grid: Grid,
    stride: int = 1,
    periodic: bool = False,
    split: bool = False,
) -> Output:
    """Return sum_m a_nm (sum_r f(prior_nr) P_r[p(n) - p(m)]) v_m; arguments as in `pattern`.

    With a_nm = sum_c phi_q[n, c] phi_k[m, c], each product phi_k[m, c] v_m is a map of its own to
    convolve: features times value channels of them.
    """
    values = _values(v, composing.shape[1], split)
    keys = phi_k.mT.repeat_interleave(v.shape[1] // phi_k.shape[1], dim=1)
    products = torch.einsum("bhcm,bhrdm->bhrcdm", keys, values)
    maps = convolve(products.flatten(3, 4), composing, grid, stride, periodic=periodic)
    maps = torch.unflatten(maps, 3, (keys.shape[2], -1))
    attended = torch.einsum("bhnc,bhrcdn->bhrdn", phi_q, maps)
    return _compose(ACTIVATIONS[activation](prior), attended, split)


def flops(grid: Grid, inputs: int, outputs: int, *, periodic: bool = False) -> int:
    """Return the FLOPs of the real transforms and products of spectra behind some convolutions.

    With M points per transform (4N in two dimensions, N if `periodic`), ``2.5 M log2 M`` for each
    of the `inputs` + `outputs` transforms and ``3 M`` for each product of spectra.

    Args:
        grid: Size of the token grid.
        inputs: Maps transformed.
        outputs: Maps transformed back, one product of spectra each.
        periodic: The tables wrap round the grid.
    """
    points = math.prod(_buffer_size(grid, periodic))
    return round(2.5 * points * math.log2(points) * (inputs + outputs) + 3 * points * outputs)
