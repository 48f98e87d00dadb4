"""Random numbers by seed, name and position."""

import numpy as np
import pytest
import torch
from scipy import stats

from attnlab.data import keys
from attnlab.data.batch import draws

SEEDS = torch.arange(500) * 7919 + 3


def _ks(values: torch.Tensor, cdf) -> float:
    return stats.kstest(values.flatten().double().numpy(), cdf).pvalue


def test_the_generator_is_splitmix64() -> None:
    found = draws.mix(torch.tensor([0, 1, -1, 2**63 - 1, 1234567]))
    assert [value % 2**64 for value in found.tolist()] == [
        keys.mix(value) for value in (0, 1, 2**64 - 1, 2**63 - 1, 1234567)
    ]
    assert found[0].item() % 2**64 == 0xE220A8397B1DCDAF  # the first output of its authors' code


def test_a_number_depends_on_its_seed_name_and_position_alone() -> None:
    long = draws.bits(SEEDS, "name", 11)
    assert torch.equal(draws.bits(SEEDS[3:5], "name", 7), long[3:5, :7])
    assert torch.equal(draws.bits_at(draws.keys(SEEDS, "name"), torch.tensor(5)), long[:, 5])
    assert len(torch.cat([long, draws.bits(SEEDS, "other", 11)]).unique()) == 2 * 500 * 11


def test_numbers_stay_the_same_for_ever() -> None:
    seeds = torch.tensor([5, 2**62 + 7])
    assert draws.bits(seeds, "erasing", 2).tolist() == [
        [-3711639583013648429, -104550433763950074],
        [2398322695090630110, 8323435185158443984],
    ]
    assert draws.integers(seeds, "crop/top", 9).tolist() == [8, 5]


def test_uniform_numbers() -> None:
    values = draws.uniform(SEEDS, "uniform", 101)
    assert values.shape == (500, 101)
    assert values.dtype == torch.float32
    assert values.min() >= 0
    assert values.max() < 1
    assert torch.equal(values * 2**24, (values * 2**24).round())
    assert _ks(values, stats.uniform.cdf) > 1e-3
    extremes = draws.to_uniform(torch.tensor([-1, 0, 2**40, -(2**40)]))
    assert extremes.tolist() == [1 - 2**-24, 0, 2**-24, 1 - 2**-24]


def test_neighbours_are_independent() -> None:
    values = draws.uniform(torch.arange(20_000), "a", 3).double()
    others = draws.uniform(torch.arange(20_000), "b", 1).double()
    pairs = {
        "seeds": (values[1:, 0], values[:-1, 0]),
        "positions": (values[:, 0], values[:, 1]),
        "names": (values[:, :1].flatten(), others.flatten()),
    }
    for name, pair in pairs.items():
        assert abs(torch.corrcoef(torch.stack(pair))[0, 1]) < 4 / 20_000**0.5, name


def test_normal_numbers() -> None:
    values = draws.normal(SEEDS, "normal", 103)
    assert values.shape == (500, 103)
    assert _ks(values, stats.norm.cdf) > 1e-3
    extremes = draws.to_normal(torch.tensor([0, -1]))
    assert extremes.isfinite().all()
    assert extremes[0].item() == pytest.approx((48 * np.log(2)) ** 0.5)


@pytest.mark.parametrize("alpha", [0.5, 0.8, 1.0, 3.7])
def test_beta_numbers(alpha: float) -> None:
    values = draws.beta(torch.arange(20_000), "beta", alpha)
    assert values.shape == (20_000,)
    assert _ks(values, stats.beta(alpha, alpha).cdf) > 1e-3


def test_integers_are_uniform_below_their_bound() -> None:
    values = draws.integers(torch.arange(26_000), "integers", 13)
    assert stats.chisquare(np.bincount(values.numpy(), minlength=13)).pvalue > 1e-3
    assert values.max() == 12
    bounds = torch.tensor([1, 2, 3, 2**31 - 1]).repeat(500)
    drawn = draws.integers(torch.arange(2000), "integers", bounds)
    assert (drawn >= 0).all()
    assert (drawn < bounds).all()
    assert drawn.view(500, 4).double().mean(0)[3] == pytest.approx(2**30, rel=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_draws_the_same() -> None:
    far = SEEDS.cuda()
    assert torch.equal(draws.bits(far, "x", 7).cpu(), draws.bits(SEEDS, "x", 7))
    assert torch.equal(draws.uniform(far, "x", 7).cpu(), draws.uniform(SEEDS, "x", 7))
    assert torch.equal(draws.integers(far, "x", 9).cpu(), draws.integers(SEEDS, "x", 9))
    for values, name in (
        (draws.normal(far, "x", 7), "normal"),
        (draws.beta(far, "x", 0.8), "beta"),
    ):
        near = draws.normal(SEEDS, "x", 7) if name == "normal" else draws.beta(SEEDS, "x", 0.8)
        torch.testing.assert_close(values.cpu(), near, rtol=1e-5, atol=1e-6)
