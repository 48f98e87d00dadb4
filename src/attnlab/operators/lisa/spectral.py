"""The operator by fast Fourier transforms, O(R N log N), over any number of grid axes.

`fft` pads to 2H x 2W and equals the dense form; `circular`, `truncated` and `split` run through
the same code with other spectra or other value slices.
"""

import math
from collections.abc import Iterator
from functools import reduce

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa.kernels import ACTIVATIONS, pattern_scores
from attnlab.operators.lisa.tables import low_pass, place

Spectra = Complex[Tensor, "rows rpes *frequencies"]
Encoding = Complex[Tensor, "groups rpes *frequencies"]
Composing = Complex[Tensor, "heads rpes *frequencies"]
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
) -> Iterator[Float[Tensor, "batch rows channels queries"]]:
    """Yield (P_r * x)[n] = sum_m P_r[p(n) - p(m)] x[m] for r = 0..R-1.

    One table at a time: the padded product and its transform need 1/R of the memory. On a CPU it
    is also faster once they outgrow 32 MB, three times at R = 8 on 64 samples of 8 x 8 x 64.

    Args:
        maps: x, with one map for all the R tables of a row or one for each.
        spectra: Result of `table_spectra` with the same `periodic`.
        grid: Size of the token grid, prod(grid) = keys.
        stride: Step between the tokens n.
        periodic: Wrap round the grid in place of padding it with zeros.
    """
    axes = tuple(range(-len(grid), 0))
    size = _buffer_size(grid, periodic)
    kept = [slice(0, length, stride) for length in grid]
    x = torch.fft.rfftn(torch.unflatten(_wide(maps), -1, grid), s=size, dim=axes)
    for r, spectrum in enumerate(spectra.unsqueeze(2).unbind(1)):
        product = spectrum * x[:, :, r if x.shape[2] > 1 else 0]
        y: Tensor = torch.fft.irfftn(product, s=size, dim=axes)
        yield y[:, :, :, *kept].flatten(3).to(maps.dtype)


def _compose(
    scores: Prior,
    v: Values,
    composing: Composing,
    grid: Grid,
    stride: int,
    periodic: bool,
    split: bool,
) -> Float[Tensor, "batch heads queries value_dim"]:
    """Weight the convolved values by the scores and sum them, or join their slices."""
    values = torch.unflatten(v.mT, 2, (composing.shape[1] if split else 1, -1))
    maps = convolve(values, composing, grid, stride, periodic=periodic)
    weighted = (score.unsqueeze(2) * y for score, y in zip(scores.unbind(-1), maps, strict=True))
    return (torch.cat(list(weighted), 2) if split else reduce(torch.add, weighted)).mT


def pattern(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    encoding: Encoding,
    composing: Composing,
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
    scores = pattern_scores(phi_q, torch.stack(list(encoded_keys), 2), prior, activation)
    return _compose(scores, v, composing, grid, stride, periodic, split)


def mask(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    composing: Composing,
    activation: str = "identity",
    *,
    grid: Grid,
    stride: int = 1,
    periodic: bool = False,
    split: bool = False,
) -> Output:
    """Return sum_m a_nm (sum_r f(prior_nr) P_r[p(n) - p(m)]) v_m; arguments as in `pattern`.

    As a_nm = sum_c phi_q[n, c] phi_k[m, c], this is a sum over c of values weighted by phi_k,
    composed, and weighted by phi_q: features times the transforms of `pattern`.
    """
    scores = ACTIVATIONS[activation](prior)
    phi_k = phi_k.repeat_interleave(v.shape[1] // phi_k.shape[1], dim=1)
    terms = (
        query.unsqueeze(-1)
        * _compose(scores, key.unsqueeze(-1) * v, composing, grid, stride, periodic, split)
        for query, key in zip(phi_q.unbind(-1), phi_k.unbind(-1), strict=True)
    )
    output: Tensor = reduce(torch.add, terms)
    return output


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
