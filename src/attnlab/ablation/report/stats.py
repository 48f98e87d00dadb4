"""The statistics of a study: spread over seeds, paired differences, and what a study separates.

All functions take finite numbers; deciding which runs count is the caller's part.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import special, stats


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation of `n` values; NaN where `n` is too small for them."""

    n: int
    mean: float
    std: float


@dataclass(frozen=True)
class Difference:
    """Mean of `n` paired differences; the interval is mean ± `half_width`, NaN below two pairs."""

    n: int
    mean: float
    half_width: float

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width

    @property
    def excludes_zero(self) -> bool | None:
        """Whether 0 lies outside the interval; None where there is no interval."""
        if math.isnan(self.half_width):
            return None
        return abs(self.mean) > self.half_width


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


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], confidence: float = 0.95
) -> Difference:
    """Student interval of the difference between two cells over the seeds both have.

    With ``d_s = values[s] - baseline[s]`` on the ``n`` common seeds, the interval is
    ``mean(d) ± t(n - 1, (1 + confidence) / 2) * std(d) / sqrt(n)``. Pairing removes what a seed
    does to both cells alike (initial weights, order of the data).

    Args:
        values: Metric of one cell by seed.
        baseline: Metric of the baseline cell by seed.
        confidence: Coverage of the interval, in (0, 1).
    """
    common = values.keys() & baseline.keys()
    gaps = summarise([values[seed] - baseline[seed] for seed in sorted(common)])
    if gaps.n < 2:
        return Difference(gaps.n, gaps.mean, math.nan)
    quantile = float(special.stdtrit(gaps.n - 1, (1 + confidence) / 2))
    return Difference(gaps.n, gaps.mean, quantile * gaps.std / math.sqrt(gaps.n))


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
        chance = float(
            stats.studentized_range.sf(math.sqrt(2) * spread / error, len(filled), freedom)
        )
    else:
        chance = 0.0 if spread > 0 else 1.0
    return Separation(highest, lowest, spread, error, min(max(chance, 0.0), 1.0))
