"""Convolutions by transforms against scipy and dense matrices; gradients are in test_module."""

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor

from attnlab.operators.lisa import spectral, trilinear
from attnlab.operators.lisa.spectral import compose, encode, fast_length, lattice, table_spectra


def convolved(maps: Tensor, tables: Tensor, grid: tuple[int, ...], stride: int, **how) -> Tensor:
    """Return P_r * x as [rpes, batch, heads, queries, channels], one r at a time."""
    where = lattice(grid, stride, **how)
    spectra = table_spectra(tables, where)
    rpes, queries = tables.shape[1], np.prod(where.out)
    one_hot = torch.eye(rpes, dtype=maps.dtype)[:, None, None, None].expand(
        -1, *maps.shape[:2], queries, -1
    )
    return torch.stack([compose(scores, maps, spectra, where) for scores in one_hot])


@pytest.mark.parametrize("channels", [2, 3])
def test_convolutions_on_three_axes_equal_scipy(channels: int) -> None:
    grid, stride = (3, 5, 4), 2
    rng = np.random.default_rng(0)
    tables, maps = rng.normal(size=(2, 3, 5, 9, 7)), rng.normal(size=(1, 2, channels, *grid))
    tokens = torch.tensor(maps).flatten(-3).mT
    for r, y in enumerate(convolved(tokens, torch.tensor(tables), grid, stride)):
        assert y.shape == (1, 2, 2 * 3 * 2, channels)
        for row, channel in [(0, 0), (1, 0), (0, 1), (1, channels - 1)]:
            full = signal.convolve(maps[0, row, channel], tables[row, r], method="direct")
            expected = full[2:5, 4:9, 3:7][::stride, ::stride, ::stride]
            np.testing.assert_allclose(y[0, row, :, channel], expected.ravel(), atol=1e-12)
    assert r == 2


def test_spectra_are_float32_for_half_precision_tables() -> None:
    spectra = table_spectra(torch.randn(1, 2, 9, 5).bfloat16(), lattice((5, 3)))
    assert spectra.dtype == torch.float32


@pytest.mark.parametrize(
    ("points", "length"),
    [(1, 2), (13, 14), (21, 24), (27, 28), (33, 36), (45, 48), (111, 112), (225, 240)],
)
def test_fast_lengths_are_multiples_of_four_without_large_factors(points: int, length: int) -> None:
    assert fast_length(points) == length


@pytest.mark.parametrize("tile_maps", [1, 5])
def test_results_and_gradients_do_not_depend_on_the_tiles(
    tile_maps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few maps a tile cut samples, heads and channels apart; the sums over them must go on."""
    torch.manual_seed(0)
    where = lattice((5, 3))
    inputs = [
        torch.randn(2, 3, 15, 4, dtype=torch.float64),
        torch.randn(2, 3, 15, 6, dtype=torch.float64),
        torch.randn(3, 4, 9, 5, dtype=torch.float64),
        torch.randn(2, 3, 15, 6, dtype=torch.float64),
    ]
    for tensor in inputs:
        tensor.requires_grad_()

    def both() -> tuple[Tensor, ...]:
        scores, values, tables, queries = inputs
        spectra = table_spectra(tables, where)
        outputs = compose(scores, values, spectra, where), encode(queries, values, spectra, where)
        loss = sum((out * torch.arange(out.numel()).view_as(out)).sum() for out in outputs)
        return *outputs, *torch.autograd.grad(loss, inputs)

    whole = both()
    monkeypatch.setitem(trilinear.TILE_BYTES, "cpu", tile_maps * 10 * 6 * 16)
    for expected, actual in zip(whole, both(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_the_same_when_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    where = lattice((5, 3), 2)
    scores, queries = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 6)
    values, tables = torch.randn(2, 3, 15, 6), torch.randn(3, 4, 9, 5)
    inputs = [tensor.double().requires_grad_() for tensor in (scores, queries, values, tables)]

    def gradients() -> tuple[Tensor, ...]:
        scores, queries, values, tables = inputs
        spectra = table_spectra(tables, where)
        y = compose(scores + encode(queries, values, spectra, where), values, spectra, where)
        return torch.autograd.grad(y.square().sum(), inputs)

    expected = gradients()
    monkeypatch.setattr(spectral, "KEPT_BYTES", 0)
    for grad, actual in zip(expected, gradients(), strict=True):
        torch.testing.assert_close(actual, grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("features", "fits"), [(5, True), (6, False)])
def test_all_features_of_a_mask_share_what_may_be_kept(
    features: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, heads, rpes, channels = lattice((5, 3), 2), 3, 4, 2
    convolutions = 2 * heads * rpes * 6 * channels * 8  # bytes of one feature, in float64
    monkeypatch.setattr(spectral, "KEPT_BYTES", 5 * convolutions)
    phi_q, phi_k = torch.rand(2, heads, 6, features), torch.rand(2, 1, 15, features)
    v, prior = torch.rand(2, heads, 15, channels), torch.rand(2, heads, 6, rpes)
    inputs = [tensor.double().requires_grad_() for tensor in (phi_q, phi_k, v, prior)]
    spectra = table_spectra(torch.rand(heads, rpes, 9, 5).double(), where)
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel() * tensor.itemsize)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        spectral.mask(*inputs, spectra, lattice=where)
    assert kept.count(convolutions) == (features if fits else 0)


def test_tokens_and_gradients_may_lie_at_any_place_in_memory() -> None:
    """Complex numbers have an even place; what is sliced out of something else may not."""
    torch.manual_seed(0)
    where = lattice((5, 3))
    scores, values = torch.randn(1, 2, 15, 3), torch.randn(1, 2, 15, 4)
    spectra = table_spectra(torch.randn(2, 3, 9, 5), where)

    def output_and_gradient(values: Tensor, first: int) -> tuple[Tensor, Tensor]:
        values.requires_grad_()
        y = compose(scores, values, spectra, where)
        longer = torch.cat([y.new_zeros(first), y.flatten()])
        return y, torch.autograd.grad(longer.square().sum(), values)[0]

    shifted = torch.cat([torch.zeros(1), values.flatten()])[1:].view(values.shape)
    assert shifted.storage_offset() == 1
    expected, actual = output_and_gradient(values, 0), output_and_gradient(shifted, 1)
    assert all(map(torch.equal, actual, expected))


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8])
def test_truncation_error_is_bounded_by_the_largest_dropped_frequency(kept: float) -> None:
    """||T(P) - T(P~)||_2 <= max |P^(w)| over the dropped w; checked on the matrices themselves."""
    grid, size = (5, 7), (10, 14)
    tables = torch.randn(1, 1, 9, 13, generator=torch.Generator().manual_seed(2)).double()
    unit = torch.eye(35, dtype=torch.float64)[None, None]  # one channel per token
    matrix, truncated = (
        convolved(unit, tables, grid, 1, kept=k)[0, 0, 0].mT.numpy() for k in (1.0, kept)
    )
    buffer = np.zeros(size)
    for dy in range(-4, 5):
        for dx in range(-6, 7):
            buffer[dy % 10, dx % 14] = tables[0, 0, dy + 4, dx + 6]
    cycles = [np.minimum(np.arange(n), n - np.arange(n)) for n in size]
    limits = [np.ceil(kept * n) for n in grid]
    dropped = (cycles[0][:, None] > limits[0]) | (cycles[1][None] > limits[1])
    bound = np.abs(np.fft.fft2(buffer))[dropped].max()
    error = np.linalg.norm(matrix - truncated, 2)
    assert 0.3 * bound < error <= bound
    # Nothing but the dropped frequencies is missing.
    low = np.fft.ifft2(np.fft.fft2(buffer) * ~dropped).real
    y, x = np.divmod(np.arange(35), 7)
    rows, columns = (y[:, None] - y) % 10, (x[:, None] - x) % 14
    np.testing.assert_allclose(truncated, low[rows, columns].T, atol=1e-12)
