"""The operator by fast Fourier transforms, O(R N log N), over any number of grid axes.

`fft` pads to at least 2H - 1 x 2W - 1 and equals the dense form; `circular`, `truncated` and
`split` run through the same code with other spectra or other groups of values.
"""

import math
from collections.abc import Iterator
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa.kernels import ACTIVATIONS
from attnlab.operators.lisa.op import lisa_compose, lisa_encode, lisa_spectra
from attnlab.operators.lisa.shapes import KeyFeatures, Output, Prior, QueryFeatures, Values
from attnlab.operators.lisa.slices import apart, joined
from attnlab.operators.lisa.trilinear import Lattice

Spectra = Float[Tensor, "groups rpes *buffer 2"]
Encoding = Float[Tensor, "groups rpes *buffer 2"]
Composing = Float[Tensor, "heads rpes *buffer 2"]

KEPT_BYTES = 2**29
"""Most memory that the R convolutions of the values may keep for the backward.

Above it the backward computes them again, which takes a third more transforms and 1/R of the
memory.
"""


def fast_length(points: int) -> int:
    """Return the least length >= `points` that transforms fast, as measured with MKL.

    No prime factor above 7; a multiple of 2, from 16 points on of 4.
    """
    step = 2 if points < 16 else 4
    length = -(-points // step) * step
    while not _is_smooth(length):
        length += step
    return length


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1


def lattice(grid: Grid, stride: int = 1, *, periodic: bool = False, kept: float = 1.0) -> Lattice:
    """Return where the tokens lie in the buffers of the transforms.

    Args:
        grid: Size of the token grid.
        stride: Step between the output tokens.
        periodic: Wrap round the grid in place of padding it with zeros.
        kept: Fraction of the frequencies of a 2H x 2W buffer that are kept; below 1, another
            buffer would keep others.
    """
    if periodic:
        return Lattice(grid, grid, stride, periodic, kept)
    doubled = tuple(2 * size for size in grid)
    padded = doubled if kept < 1 else tuple(fast_length(2 * size - 1) for size in grid)
    return Lattice(grid, padded, stride, periodic, kept)


def table_spectra(tables: Float[Tensor, "groups rpes *offsets"], lattice: Lattice) -> Spectra:
    """Return the transforms of tables, real and imaginary parts in the last axis.

    Args:
        tables: Full tables for the grid, or periodic ones where the lattice is.
        lattice: Buffers of the transforms, and the fraction of frequencies that stays.
    """
    spectra: Tensor = lisa_spectra(tables, list(lattice.buffer), lattice.periodic, lattice.kept)
    return spectra


def _geometry(lattice: Lattice) -> tuple[list[int], list[int], int]:
    return list(lattice.grid), list(lattice.buffer), lattice.stride


def _keep(
    lattice: Lattice, values: Tensor, spectra: Tensor, inputs: Tensor, times: int = 1
) -> bool:
    """Tell whether as many `times` these convolutions are wanted in a backward and find room."""
    # An exported program is for any batch, and rarely trained.
    needed = torch.is_grad_enabled() and not torch.compiler.is_exporting()
    if not needed or not any(tensor.requires_grad for tensor in (values, spectra, inputs)):
        return False
    batch, groups, _, channels = values.shape
    numbers = times * spectra.shape[1] * batch * groups * channels * math.prod(lattice.out)
    return numbers * spectra.itemsize <= KEPT_BYTES


def compose(
    scores: Float[Tensor, "batch heads queries rpes"],
    values: Values,
    composing: Composing,
    lattice: Lattice,
    times: int = 1,
) -> Output:
    """Return sum_r s_nr (P_r * v)[n]; one of as many `times` as said."""
    keep = _keep(lattice, values, composing, scores, times)
    y, _ = lisa_compose(scores.unsqueeze(2), values, composing, *_geometry(lattice), keep)
    result: Tensor = y.flatten(2, 3).transpose(1, 2)
    return result


def encode(
    phi_q: QueryFeatures, phi_k: KeyFeatures, encoding: Encoding, lattice: Lattice
) -> Float[Tensor, "batch heads queries rpes"]:
    """Return sum_m a_nm E_r[p(n) - p(m)] = phi_q[n] . (E_r * phi_k)[n]."""
    grouped = torch.unflatten(phi_q, 1, (phi_k.shape[1], -1))
    keep = _keep(lattice, phi_k, encoding, phi_q)
    scores, _ = lisa_encode(grouped, phi_k, encoding, *_geometry(lattice), keep)
    result: Tensor = scores.movedim(0, -1).flatten(1, 2)
    return result


def _composed(
    scores: Tensor, values: Tensor, composing: Tensor, lattice: Lattice, split: bool, times: int
) -> Tensor:
    if not split:
        return compose(scores, values, composing, lattice, times)
    return joined(compose(*apart(scores, values, composing), lattice, times), composing.shape[1])


def pattern(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    encoding: Encoding,
    composing: Composing,
    activation: str = "identity",
    *,
    lattice: Lattice,
    split: bool = False,
) -> Output:
    """Return sum_m (sum_r s_nr P_r[p(n) - p(m)]) v_m with s_nr = f(sum_m a_nm E_r + prior_nr).

    Args:
        phi_q: Query features, at the output tokens.
        phi_k: Key features, at all tokens.
        v: Values, at all tokens.
        prior: q_n . w_r, added to the scores.
        encoding: Spectra of E, see `table_spectra`.
        composing: Spectra of P.
        activation: Key of `ACTIVATIONS`.
        lattice: Grid, buffers and stride.
        split: Pattern r acts on its own slice of the value channels only.
    """
    scores = ACTIVATIONS[activation](encode(phi_q, phi_k, encoding, lattice) + prior)
    return _composed(scores, v, composing, lattice, split, 1)


def mask(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    composing: Composing,
    activation: str = "identity",
    *,
    lattice: Lattice,
    split: bool = False,
) -> Output:
    """Return sum_m a_nm (sum_r f(prior_nr) P_r[p(n) - p(m)]) v_m; arguments as in `pattern`.

    As a_nm = sum_c phi_q[n, c] phi_k[m, c], this is a sum over c of values weighted by phi_k,
    composed, and weighted by phi_q: features times the transforms of `pattern`.
    """
    scores = ACTIVATIONS[activation](prior)
    phi_k = phi_k.repeat_interleave(v.shape[1] // phi_k.shape[1], dim=1)
    terms: Iterator[Tensor] = (
        query * _composed(scores, key * v, composing, lattice, split, phi_q.shape[-1])
        for query, key in zip(torch.split(phi_q, 1, -1), torch.split(phi_k, 1, -1), strict=True)
    )
    return reduce(torch.add, terms)


def flops(grid: Grid, inputs: int, outputs: int, *, periodic: bool = False) -> int:
    """Return the FLOPs of the real transforms and products of spectra behind some convolutions.

    With M points per transform (4N in two dimensions, N if `periodic`; fast lengths may need a few
    more), ``2.5 M log2 M`` for each of the `inputs` + `outputs` transforms and ``3 M`` for each
    product of spectra.

    Args:
        grid: Size of the token grid.
        inputs: Maps transformed.
        outputs: Maps transformed back, one product of spectra each.
        periodic: The tables wrap round the grid.
    """
    points = math.prod(grid) * (1 if periodic else 2 ** len(grid))
    return round(2.5 * points * math.log2(points) * (inputs + outputs) + 3 * points * outputs)
