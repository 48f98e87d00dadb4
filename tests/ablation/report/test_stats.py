import math

import pytest
from scipy.stats import tukey_hsd

from attnlab.ablation.report.stats import (
    Summary,
    paired_difference,
    pooled_std,
    separation,
    summarise,
)

T_975 = {1: 12.7062, 2: 4.30265, 4: 2.77645}  # Student's t, 97.5 %, from a printed table


def test_std_divides_by_n_minus_one():
    summary = summarise([2.0, 4.0, 9.0])

    assert summary.n == 3
    assert summary.mean == pytest.approx(5.0)
    assert summary.std == pytest.approx(math.sqrt(13.0))


def test_one_value_has_no_std_and_none_has_no_mean():
    assert summarise([0.5]) == Summary(1, 0.5, pytest.approx(math.nan, nan_ok=True))
    assert math.isnan(summarise([]).mean)


def test_interval_is_that_of_the_paired_differences():
    # differences 2, 4, 9: mean 5, std sqrt(13); the cells themselves vary ten times as much
    low, high = {0: 10.0, 1: 50.0, 2: 90.0}, {0: 12.0, 1: 54.0, 2: 99.0}

    gap = paired_difference(high, low)

    assert (gap.n, gap.mean) == (3, pytest.approx(5.0))
    assert gap.half_width == pytest.approx(T_975[2] * math.sqrt(13 / 3), rel=1e-5)
    assert (gap.low, gap.high) == (
        pytest.approx(5 - 8.956686, abs=1e-4),
        pytest.approx(5 + 8.956686, abs=1e-4),
    )
    assert gap.excludes_zero is False


def test_pairs_are_the_seeds_both_cells_have():
    gap = paired_difference({0: 1.0, 2: 5.0, 7: 100.0}, {0: 0.5, 2: 3.5, 3: -100.0})

    assert (gap.n, gap.mean) == (2, pytest.approx(1.0))
    assert gap.half_width == pytest.approx(T_975[1] * math.sqrt(0.5) / math.sqrt(2), rel=1e-5)


def test_one_pair_gives_a_difference_without_interval():
    gap = paired_difference({0: 3.0, 1: 4.0}, {0: 1.0, 5: 0.0})

    assert (gap.n, gap.mean, gap.excludes_zero) == (1, 2.0, None)
    assert math.isnan(gap.half_width)


def test_seeds_in_common_are_needed_for_any_difference():
    gap = paired_difference({0: 3.0}, {1: 1.0})

    assert gap.n == 0
    assert gap.excludes_zero is None


@pytest.mark.parametrize("sign", [1, -1])
def test_interval_that_excludes_zero_on_either_side(sign):
    values = {seed: sign * (10.0 + 0.1 * seed) for seed in range(5)}

    gap = paired_difference(values, dict.fromkeys(values, 0.0))

    assert gap.half_width == pytest.approx(T_975[4] * 0.158113883 / math.sqrt(5), rel=1e-5)
    assert gap.excludes_zero is True


def test_pooled_std_weighs_cells_by_their_degrees_of_freedom():
    # variances 2 with one degree of freedom and 12 with two; a single run says nothing
    assert pooled_std([[1.0, 3.0], [0.0, 0.0, 6.0], [70.0]]) == pytest.approx(math.sqrt(26 / 3))
    assert math.isnan(pooled_std([[1.0], [2.0], []]))


def test_separation_takes_the_error_of_a_difference_of_two_means():
    found = separation([[1.0, 2.0, 3.0], [5.0, 6.0, 7.0], [2.0, 3.0, 4.0]])

    assert (found.lowest, found.highest) == (0, 1)
    assert found.spread == pytest.approx(4.0)
    assert found.standard_error == pytest.approx(math.sqrt(2 / 3))
    assert found.separates


def test_separation_uses_the_runs_that_the_two_cells_have():
    found = separation([[1.0, 3.0], [], [4.0, 5.0, 6.0, 5.0], [2.5]])

    assert (found.lowest, found.highest) == (0, 2)
    pooled = math.sqrt((2 + 2) / 4)  # squared deviations 2 and 2 over 1 + 3 degrees of freedom
    assert found.standard_error == pytest.approx(pooled * math.sqrt(1 / 2 + 1 / 4))
    assert found.spread == pytest.approx(3.0)


@pytest.mark.parametrize(("distance", "separates"), [(1.99, False), (2.01, True)])
def test_cells_separate_beyond_two_standard_errors(distance, separates):
    half = math.sqrt(0.5)  # std 1 within both cells of two runs: standard error 1

    found = separation([[-half, half], [distance - half, distance + half]])

    assert found.standard_error == pytest.approx(1.0)
    assert found.separates is separates


def test_chance_is_the_p_value_of_tukeys_test():
    groups = [[1.0, 2.0, 3.0], [5.0, 6.5, 7.0, 6.0], [2.0, 3.0, 4.5]]

    expected = tukey_hsd(*groups).pvalue[0, 1]
    assert separation(groups).chance == pytest.approx(expected, rel=1e-6)
    assert separation([[], *groups, []]).chance == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 2.0], []]])
def test_nothing_to_compare_or_no_noise_known_gives_no_verdict(groups):
    assert separation(groups) is None


def test_seeds_that_all_agree():
    assert separation([[1.0, 1.0], [2.0, 2.0]]).chance == 0.0
    same = separation([[1.0, 1.0], [1.0, 1.0]])
    assert (same.chance, same.separates) == (1.0, False)
