import itertools
import math

import numpy as np
import pytest

from attnlab.ablation.report import differences
from attnlab.ablation.report.differences import COVERAGE, PLAIN_COVERAGE, holm, percentiles

T_975 = {1: 12.7062, 2: 4.30265, 4: 2.77645}  # Student's t, 97.5 %, from a printed table


def compare(values, baseline):
    """The difference of a study's only cell."""
    (found,) = differences.differences([values], baseline)
    return found


def test_student_interval_is_that_of_the_paired_differences():
    # differences 2, 4, 9: mean 5, std sqrt(13); the cells themselves vary ten times as much
    low, high = {0: 10.0, 1: 50.0, 2: 90.0}, {0: 12.0, 1: 54.0, 2: 99.0}

    gap = compare(high, low)

    assert (gap.n, gap.mean) == (3, pytest.approx(5.0))
    assert gap.half_width == pytest.approx(T_975[2] * math.sqrt(13 / 3), rel=1e-5)
    # t = 5 / sqrt(13 / 3) = 2.402; with 2 degrees of freedom p = 1 - t / sqrt(t^2 + 2)
    t = 5 / math.sqrt(13 / 3)
    assert gap.p == pytest.approx(1 - t / math.sqrt(t**2 + 2), rel=1e-9)
    assert gap.p_holm == gap.p  # one comparison needs no correction
    assert gap.differs is False


def test_pairs_are_the_seeds_both_cells_have():
    gap = compare({0: 1.0, 2: 5.0, 7: 100.0}, {0: 0.5, 2: 3.5, 3: -100.0})

    assert (gap.n, gap.mean) == (2, pytest.approx(1.0))
    assert gap.half_width == pytest.approx(T_975[1] * math.sqrt(0.5) / math.sqrt(2), rel=1e-5)


def test_one_pair_gives_a_difference_without_interval_or_p():
    gap = compare({0: 3.0, 1: 4.0}, {0: 1.0, 5: 0.0})

    assert (gap.n, gap.mean, gap.differs) == (1, 2.0, None)
    assert all(math.isnan(x) for x in (gap.half_width, gap.low, gap.high, gap.p, gap.p_holm))


def test_seeds_in_common_are_needed_for_any_difference():
    assert compare({0: 3.0}, {1: 1.0}) is None


@pytest.mark.parametrize(("shift", "p"), [(1.0, 0.0), (0.0, 1.0)])
def test_seeds_that_all_agree_leave_no_doubt(shift, p):
    gap = compare(dict.fromkeys(range(3), 2.0 + shift), dict.fromkeys(range(3), 2.0))

    assert (gap.low, gap.high, gap.p, gap.differs) == (shift, shift, p, p < 0.05)


def test_cells_of_different_seeds_keep_their_order():
    baseline = {0: 0.0, 1: 0.0, 2: 0.0}
    cells = [{0: 1.0}, {0: 1.0, 1: 3.0}, {5: 1.0}, {0: 7.0, 1: 8.0, 2: 9.0}, {1: 5.0, 2: 6.0}]

    found = differences.differences(cells, baseline)

    assert [gap and (gap.n, gap.mean) for gap in found] == [(1, 1), (2, 2), None, (3, 8), (2, 5.5)]
    assert found[3].p_holm == pytest.approx(3 * found[3].p)  # the smallest of three p-values


def test_percentiles_of_three_are_those_of_all_27_resamples():
    gaps = np.array([[1.0, 2.0, 6.0], [0.3, -0.1, 0.2]])

    low, high = percentiles(gaps)

    for row, ends in zip(gaps, zip(low, high, strict=True), strict=True):
        means = sorted(float(np.mean(one)) for one in itertools.product(row, repeat=3))
        # one mean of 27 is 3.7 % of them, more than a tail holds: the ends are the extremes
        assert ends == (pytest.approx(means[0]), pytest.approx(means[-1]))


def test_percentiles_of_five_leave_out_at_most_the_tails():
    row = np.array([[0.1, 0.7, -0.4, 1.9, 0.3]])
    means = sorted(float(np.mean(one)) for one in itertools.product(row[0], repeat=5))

    ((low,), (high,)) = percentiles(row)

    assert low == pytest.approx(means[math.ceil(0.025 * 3125) - 1])
    assert high == pytest.approx(means[math.ceil(0.975 * 3125) - 1])


def test_drawn_resamples_come_near_all_of_them(monkeypatch):
    row = np.random.default_rng(3).normal(size=(2, 7))
    exact = percentiles(row)
    monkeypatch.setattr(differences, "ENUMERATED", 6)

    drawn = percentiles(row)

    assert not np.array_equal(drawn, exact)
    np.testing.assert_allclose(drawn, exact, atol=0.05 * row.std())
    np.testing.assert_array_equal(percentiles(row), drawn)  # the seed is fixed


def test_many_cells_are_computed_in_parts_with_the_same_outcome():
    gaps = np.random.default_rng(4).normal(size=(1203, 4))

    np.testing.assert_array_equal(percentiles(gaps)[:, 700], percentiles(gaps[700:701])[:, 0])


def test_interval_is_the_percentile_interval_widened_about_the_mean():
    gap = compare({0: 1.0, 1: 2.0, 2: 6.0}, dict.fromkeys(range(3), 0.0))

    factor = 4.30265 / 1.959964 * math.sqrt(3 / 2)
    assert gap.low == pytest.approx(3 + factor * (1 - 3), rel=1e-5)
    assert gap.high == pytest.approx(3 + factor * (6 - 3), rel=1e-5)


@pytest.mark.parametrize("pairs", COVERAGE)
def test_coverage_is_as_the_footnotes_say(pairs):
    noise = np.random.default_rng(pairs).normal(size=(4000, pairs))
    cells = [dict(enumerate(row)) for row in noise.tolist()]

    low, high = percentiles(noise)
    found = differences.differences(cells, dict.fromkeys(range(pairs), 0.0))

    # the standard error is 0.3 % of shares near 95 %, 0.7 % near 50 %
    plain = 100 * np.mean((low <= 0) & (high >= 0))
    widened = 100 * np.mean([gap.low <= 0 <= gap.high for gap in found])
    assert plain == pytest.approx(PLAIN_COVERAGE[pairs], abs=2.0)
    assert widened == pytest.approx(COVERAGE[pairs], abs=1.0)


def test_skewed_noise_covers_as_the_footnotes_say():
    noise = np.random.default_rng(0).exponential(size=(8000, 3)) - 1
    found = differences.differences(
        [dict(enumerate(row)) for row in noise.tolist()], dict.fromkeys(range(3), 0.0)
    )

    assert 100 * np.mean([gap.low <= 0 <= gap.high for gap in found]) == pytest.approx(88, abs=2)


def test_holm_by_hand():
    # sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, none below one before it
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    assert holm([]).size == 0


def test_holm_keeps_the_family_wise_error():
    p = np.random.default_rng(1).uniform(size=(4000, 10))

    wrong = np.mean([holm(row).min() < 0.05 for row in p])

    assert wrong == pytest.approx(0.05, abs=0.012)  # uncorrected it would be 0.40
