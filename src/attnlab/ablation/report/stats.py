"""The statistics of a study: spread over seeds, ranks, and what a study separates.

All functions take finite numbers; deciding which runs count is the caller's part.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation of `n` values; NaN where `n` is too small for them."""

    n: int
    mean: float
    std: float


@dataclass(frozen=True)
class Separation:
    """Distance between the highest and the lowest cell mean against its noise over seeds.

    `highest` and `lowest` are positions in the groups given to `separation`; `chance` is the
    probability of a spread at least this large among cells that do not differ.
    """

    highest: int
    lowest: int
    spread: float
    standard_error: float
    chance: float

    @property
    def separates(self) -> bool:
        """Whether the spread exceeds twice its standard error."""
        return self.spread > 2 * self.standard_error


def summarise(values: Sequence[float]) -> Summary:
    """Mean and standard deviation, ``sqrt(sum((x - mean)^2) / (n - 1))``."""
    return Summary(
        n=len(values),
        mean=fmean(values) if values else math.nan,
        std=stdev(values) if len(values) > 1 else math.nan,
    )


def places(scores: Sequence[float], maximize: bool) -> list[int]:
    """Return the place of each finite score, 1 for the best; equal scores share the better one."""
    signed = np.array([-score if maximize else score for score in scores])
    return [int(place) for place in np.searchsorted(np.sort(signed), signed) + 1]


def mean_ranks(by_seed: Sequence[Mapping[int, float]], maximize: bool) -> list[float]:
    """Return the mean rank of each cell over the seeds that all cells have; NaN without any.

    Within a seed 1 is the best, and equal values share the mean of their ranks.
    """
    shared = sorted(set.intersection(*(set(one) for one in by_seed))) if by_seed else []
    if not shared:
        return [math.nan] * len(by_seed)
    table = np.array([[values[seed] for seed in shared] for values in by_seed])
    columns = [(column, np.sort(column)) for column in (-table if maximize else table).T]
    ranks = [
        (np.searchsorted(ordered, column) + np.searchsorted(ordered, column, "right") + 1) / 2
        for column, ordered in columns
    ]
    return [float(rank) for rank in np.mean(ranks, axis=0)]


def pooled_std(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation within cells, ``sqrt(sum((n_c - 1) std_c^2) / sum(n_c - 1))``.

    NaN when no cell has two runs.
    """
    repeated = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in repeated)
    if not freedom:
        return math.nan
    return math.sqrt(sum((len(group) - 1) * stdev(group) ** 2 for group in repeated) / freedom)


def separation(groups: Sequence[Sequence[float]]) -> Separation | None:
    """Compare the spread of the cell means with the standard error over seeds.

    The standard error is that of a difference of two cell means, seeds taken as independent
    (wider than the paired one where seeds correlate): ``pooled_std * sqrt(1/n_high + 1/n_low)``.
    The highest and lowest of k cells are picked after the fact, so beside the rule "more than two
    standard errors" stands the probability of such a spread by chance: the survival function of
    the studentised range at ``sqrt(2) * spread / standard_error`` with k means (Tukey-Kramer).

    Args:
        groups: Metric of every run, one group per cell; empty groups are passed over.

    Returns:
        None when fewer than two cells have a run, or none has two.
    """
    filled = [index for index, group in enumerate(groups) if group]
    noise = pooled_std(groups)
    if len(filled) < 2 or math.isnan(noise):
        return None
    highest = max(filled, key=lambda index: fmean(groups[index]))
    lowest = min(filled, key=lambda index: fmean(groups[index]))
    spread = fmean(groups[highest]) - fmean(groups[lowest])
    error = noise * math.sqrt(1 / len(groups[highest]) + 1 / len(groups[lowest]))
    freedom = sum(len(groups[index]) - 1 for index in filled)
    if error > 0:
        from scipy import stats  # half a second, which a study of single runs need not wait for

        chance = float(
            stats.studentized_range.sf(math.sqrt(2) * spread / error, len(filled), freedom)
        )
    else:
        chance = 0.0 if spread > 0 else 1.0
    return Separation(highest, lowest, spread, error, min(max(chance, 0.0), 1.0))
