"""CKA against its definition on full data, and against what it must and must not see."""

import itertools

import pytest
import torch

from attnlab.analysis.cka import MinibatchCKA, gram, hsic


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cka(*features: torch.Tensor, batch: int | None = None) -> torch.Tensor:
    found = MinibatchCKA()
    for part in zip(*(each.split(batch or len(each)) for each in features), strict=True):
        found.update([gram(each) for each in part])
    return found.compute()


def by_definition(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The U-statistic of HSIC: the mean over all ordered quadruples of different samples."""
    k, l_ = x @ x.t(), y @ y.t()
    terms = [
        k[i, j] * (l_[i, j] + l_[q, r] - 2 * l_[i, q])
        for i, j, q, r in itertools.permutations(range(len(x)), 4)
    ]
    return torch.stack(terms).mean()


def test_hsic_is_the_mean_over_quadruples():
    x, y = noise(7, 3), noise(7, 5, seed=1)
    y[:, :3] += x
    expected = by_definition(x, y)
    assert expected.abs() > 0.1
    torch.testing.assert_close(hsic(gram(x), gram(y)), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(hsic(x @ x.t(), y @ y.t()), expected, rtol=1e-10, atol=0)


def test_full_data_in_one_minibatch_is_the_definition():
    x, y = noise(11, 2, 3), noise(11, 13, seed=1)
    y[:, :6] += 2 * x.flatten(1)
    a, b = x.flatten(1), y
    expected = by_definition(a, b) / (by_definition(a, a) * by_definition(b, b)).sqrt()
    assert 0.1 < expected < 0.95
    torch.testing.assert_close(cka(x, y)[0, 1], expected)
    torch.testing.assert_close(cka(x, y)[1, 0], expected)


def test_one_with_itself_and_blind_to_rotation_scale_and_shift():
    x = noise(17, 5)
    turn = torch.linalg.qr(noise(5, 5, seed=2)).Q
    found = cka(x, x, -0.37 * x @ turn + 3)
    torch.testing.assert_close(found, torch.ones(3, 3, dtype=torch.float64))


def test_a_map_that_stretches_is_seen():
    x = noise(101, 5)
    stretch = torch.tensor([10.0, 1, 1, 1, 1], dtype=torch.float64)
    assert cka(x, x * stretch)[0, 1] < 0.8


def test_independent_noise_is_near_zero_even_with_few_samples():
    """The biased estimate is near 1 here: there are far more features than samples."""
    values = [cka(noise(23, 400, seed=s), noise(23, 400, seed=s + 50))[0, 1] for s in range(9)]
    assert abs(torch.stack(values).mean()) < 0.05
    centred = [noise(23, 400, seed=s) for s in (0, 50)]
    k, l_ = (each - each.mean(0) for each in centred)
    k, l_ = k @ k.t(), l_ @ l_.t()
    assert (k * l_).sum() / (k.norm() * l_.norm()) > 0.9


def test_minibatches_agree_with_the_whole():
    x = noise(1030, 6)
    y = x + 1.2 * noise(1030, 6, seed=1)
    whole, parts = cka(x, y)[0, 1], cka(x, y, batch=10)[0, 1]
    assert 0.3 < whole < 0.7
    assert abs(whole - parts) < 0.03


def test_the_average_is_over_estimates_and_not_over_ratios():
    x = noise(24, 4)
    y = x + noise(24, 4, seed=1)
    parts = [(gram(a), gram(b)) for a, b in zip(x.split(8), y.split(8), strict=True)]
    xy, xx, yy = (
        torch.stack([hsic(p[i], p[j]) for p in parts]).mean() for i, j in ((0, 1), (0, 0), (1, 1))
    )
    torch.testing.assert_close(cka(x, y, batch=8)[0, 1], xy / (xx * yy).sqrt())


def test_no_estimate_is_above_one():
    """Noise of two samples per direction of a minibatch, where estimates scatter most."""
    found = cka(*(noise(12, 2, seed=seed) for seed in range(17)), batch=4)
    assert found.max() < 1 + 1e-12
    assert found.min() < -0.3


def test_small_minibatches():
    found = MinibatchCKA()
    x = noise(14, 3)
    found.update([gram(x[:11]), gram(x[:11])])
    found.update([gram(x[11:]), gram(-x[11:])])
    assert found.samples == 11  # three samples have no estimate
    with pytest.raises(ValueError, match="minibatch of at least 4 samples"):
        MinibatchCKA().compute()
    with pytest.raises(ValueError, match="samples=3 must be at least 4"):
        hsic(gram(x[:3]), gram(x[:3]))


def test_an_output_that_never_changes_has_no_cka():
    found = cka(noise(9, 3), torch.ones(9, 2, dtype=torch.float64))
    assert found[0, 0] == pytest.approx(1)
    assert found.isnan().tolist() == [[False, True], [True, True]]
