import numpy as np
import pytest
import torch
from scipy import signal

from attnlab.operators.lisa.spectral import convolve, table_spectra


def test_convolve_on_three_axes_equals_scipy() -> None:
    grid, stride = (3, 5, 4), 2
    rng = np.random.default_rng(0)
    tables, maps = rng.normal(size=(2, 3, 5, 9, 7)), rng.normal(size=(1, 2, 1, 2, *grid))
    convolved = convolve(
        torch.tensor(maps).flatten(-3), table_spectra(torch.tensor(tables), grid), grid, stride
    )
    for r, y in enumerate(convolved):
        assert y.shape == (1, 2, 2, 2 * 3 * 2)
        for row, channel in [(0, 0), (1, 0), (0, 1), (1, 1)]:
            full = signal.convolve(maps[0, row, 0, channel], tables[row, r], method="direct")
            expected = full[2:5, 4:9, 3:7][::stride, ::stride, ::stride]
            np.testing.assert_allclose(y[0, row, channel], expected.ravel(), atol=1e-12)
    assert r == 2


def test_spectra_are_float32_for_half_precision_tables() -> None:
    spectra = table_spectra(torch.randn(1, 2, 9, 5).bfloat16(), (5, 3))
    assert spectra.dtype == torch.complex64


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8])
def test_truncation_error_is_bounded_by_the_largest_dropped_frequency(kept: float) -> None:
    """||T(P) - T(P~)||_2 <= max |P^(w)| over the dropped w; checked on the matrices themselves."""
    grid, size = (5, 7), (10, 14)
    tables = torch.randn(1, 1, 9, 13, generator=torch.Generator().manual_seed(2)).double()
    unit = torch.eye(35, dtype=torch.float64)[None, None, None]  # one channel per token
    matrix, truncated = (
        next(convolve(unit, table_spectra(tables, grid, kept=k), grid))[0, 0].numpy()
        for k in (1.0, kept)
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
