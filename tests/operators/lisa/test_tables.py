import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attnlab.operators.lisa.tables import crop, low_pass, place, resize, toeplitz


@pytest.mark.parametrize(("grid", "stride"), [((5, 3), 1), ((5, 3), 2), ((2, 3, 4), 3)])
def test_toeplitz_entry_is_the_table_at_the_offset(grid: tuple[int, ...], stride: int) -> None:
    tables = torch.randn(2, 3, *(2 * size - 1 for size in grid))
    matrices = toeplitz(tables, grid, stride)
    keys = list(itertools.product(*map(range, grid)))
    queries = list(itertools.product(*(range(0, size, stride) for size in grid)))
    assert matrices.shape == (2, 3, len(queries), len(keys))
    for (i, n), (j, m) in itertools.product(enumerate(queries), enumerate(keys)):
        offset = tuple(a - b + size - 1 for a, b, size in zip(n, m, grid, strict=True))
        assert torch.equal(matrices[:, :, i, j], tables[(..., *offset)])


@pytest.mark.parametrize("size", [(10, 6), (9, 8), (12, 5)])
def test_place_puts_offsets_modulo_the_buffer(size: tuple[int, int]) -> None:
    tables = torch.randn(2, 1, 9, 5)
    buffer = place(tables, size)
    assert buffer.shape == (2, 1, *size)
    for dy, dx in itertools.product(range(-4, 5), range(-2, 3)):
        entry = buffer[:, :, dy % size[0], dx % size[1]]
        assert torch.equal(entry, tables[:, :, dy + 4, dx + 2])
    assert (buffer != 0).sum() == tables.numel()
    assert torch.equal(crop(buffer, (9, 5)), tables)


def test_low_pass_keeps_the_lowest_frequencies_of_each_axis() -> None:
    keep = low_pass((10, 6), 0.5, torch.device("cpu"))  # up to ceil(0.5 * 5) = 3 and 2 cycles
    row, none = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0], [0.0] * 6
    assert keep.tolist() == [row if y in (0, 1, 2, 3, 7, 8, 9) else none for y in range(10)]


def test_low_pass_spares_an_axis_of_one_token() -> None:
    assert (low_pass((2, 2), 0.1, torch.device("cpu")) == 1).all()


def smooth(grid: tuple[int, int]) -> torch.Tensor:
    """Sample a function of the relative offset on the full table of a grid."""
    y, x = (np.arange(1 - size, size) / (2 * size - 1) for size in grid)
    return torch.tensor(np.exp(-9 * (y[:, None] - 0.1) ** 2) * np.cos(4 * x + y[:, None]))[
        None, None
    ]


@pytest.mark.parametrize("new", [(14, 21), (11, 13), (6, 9)])
def test_resize_follows_a_smooth_table(new: tuple[int, int]) -> None:
    old = (9, 13)
    error = (resize(smooth(old), old, new, periodic=False) - smooth(new)).abs()
    centre = (..., slice(2, -2), slice(2, -2))  # the border has no outer neighbours
    assert error[centre].max() < 0.015  # of 1: the cubic's own error at this spacing
    assert error.max() < 0.05


def test_resize_is_bicubic_over_two_axes() -> None:
    tables = torch.randn(2, 3, 9, 5)
    expected = F.interpolate(tables, size=(13, 11), mode="bicubic", align_corners=False)
    torch.testing.assert_close(resize(tables, (5, 3), (7, 6), periodic=False), expected)


@pytest.mark.parametrize("periodic", [False, True])
def test_resize_over_three_axes_acts_on_each(periodic: bool) -> None:
    """A product of one-axis functions is resized factor by factor; an equal axis is untouched."""
    old, new = (3, 5, 4), (6, 5, 7)
    sizes = old if periodic else tuple(2 * size - 1 for size in old)
    factors = [torch.randn(size, dtype=torch.float64) for size in sizes]
    table = torch.einsum("t,h,w->thw", *factors)[None, None]
    resized = [
        resize(f[None, None, None], (1, o), (1, n), periodic=periodic).flatten()
        for f, o, n in zip(factors, old, new, strict=True)
    ]
    assert torch.equal(resized[1], factors[1])
    expected = torch.einsum("t,h,w->thw", *resized)[None, None]
    torch.testing.assert_close(resize(table, old, new, periodic=periodic), expected)


@pytest.mark.parametrize(("old", "new"), [(1, 4), (5, 8), (6, 3), (8, 1)])
def test_resize_keeps_offset_zero_in_the_middle(old: int, new: int) -> None:
    offsets = torch.arange(1 - old, old, dtype=torch.float64)
    symmetric = torch.exp(-offsets.square() / 8).view(1, 1, 1, -1)
    resized = resize(symmetric, (1, old), (1, new), periodic=False).flatten()
    torch.testing.assert_close(resized, resized.flip(0))
    assert resized[new - 1].item() == pytest.approx(1, abs=1e-12)


def test_resize_of_a_periodic_table_crosses_the_seam() -> None:
    def wave(size: int) -> torch.Tensor:
        phase = 2 * math.pi * torch.arange(size, dtype=torch.float64) / size
        return torch.cos(phase + 0.3).view(1, 1, 1, -1)

    resized = resize(wave(9), (1, 9), (1, 18), periodic=True)
    # The cubic passes through the old samples; half-way between them, the last place (between
    # offset 8 and offset 9 = 0) included, its weights -3/32, 19/32 scale this wave.
    gain = (19 * math.cos(math.pi / 9) - 3 * math.cos(math.pi / 3)) / 16
    torch.testing.assert_close(resized[..., ::2], wave(9))
    torch.testing.assert_close(resized[..., 1::2], gain * wave(18)[..., 1::2])
    fewer = resize(wave(12), (1, 12), (1, 9), periodic=True)
    torch.testing.assert_close(fewer[..., ::3], wave(9)[..., ::3])
    assert (fewer - wave(9)).abs().max() < 0.03
