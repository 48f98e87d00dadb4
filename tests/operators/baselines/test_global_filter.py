"""Global filter: the laws, circular convolution with known kernels, other grids, and its cost."""

import math
from typing import ClassVar

import numpy as np
import pytest
import scipy.ndimage
import torch

from attnlab.operators.base import TokenMixer
from attnlab.operators.baselines import GlobalFilter
from attnlab.operators.baselines.global_filter import hermitian, resample_spectrum
from tests.operators.contract import DIM, HEADS, OperatorLaws, assert_close, build, tokens


class TestLaws(OperatorLaws):
    variants: ClassVar = {"global_filter": GlobalFilter}

    def values(self, mixer: TokenMixer, x: torch.Tensor) -> torch.Tensor:
        return x


def with_kernel(grid: tuple[int, ...], kernel: np.ndarray) -> GlobalFilter:
    """Return a filter whose kernel, of odd sizes and centred, is the same on all channels."""
    padded = np.zeros(grid)
    for index in np.ndindex(kernel.shape):
        offset = tuple((i - n // 2) % g for i, n, g in zip(index, kernel.shape, grid, strict=True))
        padded[offset] = kernel[index]
    spectrum = np.fft.rfftn(padded)[..., None].repeat(DIM, -1)
    mixer = GlobalFilter(DIM, HEADS, grid).double()
    with torch.no_grad():
        mixer.filter.copy_(torch.from_numpy(np.stack([spectrum.real, spectrum.imag], -1)))
    return mixer


def scipy_convolution(x: torch.Tensor, kernel: np.ndarray) -> torch.Tensor:
    kernel = kernel.reshape(1, *kernel.shape, 1)
    return torch.from_numpy(scipy.ndimage.convolve(x.numpy(), kernel, mode="wrap"))


@pytest.mark.parametrize("grid", [(7, 5), (4, 6), (3, 5, 4)])
def test_is_circular_convolution_with_its_kernel(grid: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(4).normal(size=[3] * len(grid))
    mixer, x = with_kernel(grid, kernel), tokens(grid)
    expected = scipy_convolution(x, kernel)
    assert_close(mixer(x), expected, 1e-12, "forward")
    assert_close(mixer.reference(x), expected, 1e-12, "reference")


@pytest.mark.parametrize("new_grid", [(11, 5), (8, 9), (6, 4), (3, 3)])
def test_a_small_kernel_survives_any_change_of_grid(new_grid: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(4).normal(size=(3, 3))
    mixer, x = with_kernel((7, 5), kernel), tokens(new_grid)
    assert_close(mixer(x), scipy_convolution(x, kernel), 1e-12, "forward")


@pytest.mark.parametrize("new_grid", [(8, 3), (4, 9), (10, 2)])
def test_reference_agrees_on_other_grids(new_grid: tuple[int, ...]) -> None:
    for grid in ((7, 5), (6, 4)):  # odd and even: an even axis has an offset without a partner
        mixer, x = build(GlobalFilter, grid), tokens(new_grid)
        assert_close(mixer(x), mixer.reference(x), 1e-12, f"{grid} -> {new_grid}")


@pytest.mark.parametrize("grid", [(7, 5), (6, 4), (3, 5, 2), (1, 1)])
def test_spectrum_is_that_of_a_real_kernel(grid: tuple[int, ...]) -> None:
    """Anything else is undefined input of the inverse transform on CUDA."""
    axes = tuple(range(len(grid)))
    free = torch.randn(*grid[:-1], grid[-1] // 2 + 1, 3, dtype=torch.complex128)
    spectrum = hermitian(free, grid)
    kernel = torch.fft.irfftn(free, s=grid, dim=axes)
    torch.testing.assert_close(torch.fft.rfftn(kernel, dim=axes), spectrum)
    torch.testing.assert_close(torch.fft.irfftn(spectrum, s=grid, dim=axes), kernel)


def test_interpolated_spectrum_passes_through_the_learnt_one() -> None:
    """Twice the grid has the old frequencies at every other new one."""
    spectrum = torch.fft.rfftn(torch.randn(7, 5, 3, dtype=torch.float64), dim=(0, 1))
    doubled = resample_spectrum(spectrum, (7, 5), (14, 10))
    torch.testing.assert_close(doubled[::2, ::2], spectrum)


def test_shifts_with_its_tokens() -> None:
    mixer, x = build(GlobalFilter, (7, 5)), tokens((7, 5))
    assert_close(mixer(x.roll((3, 2), (1, 2))), mixer(x).roll((3, 2), (1, 2)), 1e-12, "shift")


def test_every_token_reaches_every_token() -> None:
    mixer, x = build(GlobalFilter, (7, 5)), tokens((7, 5), batch=1)
    changed = x.clone()
    changed[0, 2, 3] += 1.0
    assert ((mixer(changed) - mixer(x)).abs().amax(-1) > 1e-6).all()


def test_transforms_stay_in_float32_under_autocast() -> None:
    mixer, x = build(GlobalFilter, (7, 5)).float(), tokens((7, 5)).float()
    exact = mixer.reference(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(mixer(x), exact, 1e-6, "autocast")


def test_runs_in_pure_bfloat16() -> None:
    mixer, x = build(GlobalFilter, (7, 5)), tokens((7, 5))
    exact = mixer(x)
    out = mixer.bfloat16()(x.bfloat16())
    assert out.dtype == torch.bfloat16
    assert_close(out.double(), exact, 0.02, "bfloat16")


def test_parameters_are_the_half_spectrum_and_a_map_only_between_widths() -> None:
    half = 7 * 3 * DIM * 2
    assert sum(p.numel() for p in GlobalFilter(DIM, HEADS, (7, 5)).parameters()) == half
    wider = GlobalFilter(DIM, HEADS, (7, 5), out_dim=24)
    assert sum(p.numel() for p in wider.parameters()) == half + 24 * DIM
    assert all(not value.is_complex() for value in wider.state_dict().values())


def test_flops_of_transforms_and_products() -> None:
    mixer = GlobalFilter(DIM, HEADS, (7, 5))
    assert mixer.uncounted_flops((8, 4)) == DIM * (2 * 2.5 * 32 * 5 + 6 * 8 * 3)
    assert mixer.uncounted_flops((1, 1)) == 6 * DIM
    exact = DIM * (2 * 2.5 * 3136 * math.log2(3136) + 6 * 56 * 29)
    assert mixer.uncounted_flops((56, 56)) == round(exact)


def test_maps_are_the_centred_kernels() -> None:
    kernel = np.random.default_rng(4).normal(size=(3, 3))
    maps = with_kernel((7, 5), kernel).learnt_maps()["kernel"]
    assert maps.shape == (DIM, 7, 5)
    torch.testing.assert_close(maps[4, 2:5, 1:4], torch.from_numpy(kernel))
