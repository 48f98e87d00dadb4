import math

import pytest
from scipy.stats import tukey_hsd

from attnlab.ablation.report.stats import (
    Summary,
    mean_ranks,
    places,
    pooled_std,
    separation,
    summarise,
)


def test_std_divides_by_n_minus_one():
    summary = summarise([2.0, 4.0, 9.0])

    assert summary.n == 3
    assert summary.mean == pytest.approx(5.0)
    assert summary.std == pytest.approx(math.sqrt(13.0))


def test_one_value_has_no_std_and_none_has_no_mean():
    assert summarise([0.5]) == Summary(1, 0.5, pytest.approx(math.nan, nan_ok=True))
    assert math.isnan(summarise([]).mean)


@pytest.mark.parametrize(("maximize", "expected"), [(True, [3, 1, 1, 4]), (False, [2, 3, 3, 1])])
def test_places_go_to_the_better_mean_and_ties_share_the_better_one(maximize, expected):
    assert places([0.5, 0.9, 0.9, 0.1], maximize) == expected


def test_mean_rank_is_taken_over_the_seeds_that_all_cells_have():
    by_seed = [{0: 0.9, 1: 0.5, 2: 0.0}, {0: 0.8, 1: 0.5}, {0: 0.7, 1: 0.6, 3: 1.0}]

    assert mean_ranks(by_seed, True) == [(1 + 2.5) / 2, (2 + 2.5) / 2, (3 + 1) / 2]
    assert mean_ranks(by_seed, False) == [(3 + 1.5) / 2, (2 + 1.5) / 2, (1 + 3) / 2]
    assert all(math.isnan(rank) for rank in mean_ranks([{0: 0.9}, {1: 0.8}], True))
    assert mean_ranks([], True) == []


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
