"""A study's results put in order: one row per cell, with its runs, spread and difference."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from attnlab.ablation.attempts import Failure
from attnlab.ablation.cells import Cell, Result, broken
from attnlab.ablation.errors import UserError
from attnlab.ablation.report.differences import Difference, differences
from attnlab.ablation.report.metric import Metric
from attnlab.ablation.report.prediction import Prediction
from attnlab.ablation.report.stats import (
    Separation,
    Summary,
    mean_ranks,
    places,
    separation,
    summarise,
)
from attnlab.ablation.schema import Axis, Profile, Study


@dataclass(frozen=True)
class Run:
    """One finished run: its metrics (null and missing ones are NaN) and its record.

    Attributes:
        broken_metric: The metric that shows that the run failed (`cells.broken`), if it did.
        total_s: Seconds from start to end, by the driver's clock where there was one, or else by
            the run's own; NaN where neither was recorded.
        loop_s: Those inside the training and test loops.
        workers: Runs at a time, where known.
    """

    seed: int
    run_dir: Path
    value: float
    metrics: Mapping[str, float]
    record: Mapping[str, Any]
    broken_metric: str | None
    total_s: float
    loop_s: float
    workers: int | None

    @property
    def failed(self) -> bool:
        """Whether the study's metric, or the loss that goes with it, is not a finite number."""
        return self.broken_metric is not None

    @property
    def overhead_s(self) -> float:
        """Seconds outside the training and test loops."""
        return self.total_s - self.loop_s


@dataclass(frozen=True)
class Row:
    """One cell of the grid: its runs in the order of the seeds, and what they say.

    `score` summarises the runs that did not fail. `difference` is None for the baseline, for a cell
    without a run in common with it, and where either has a failed run: what is left of a
    diverging cell is a favourable selection.

    Attributes:
        missing: Seeds without a result, for whatever reason.
        errors: Why, for those whose latest attempt ended in an error.
        place: Of its mean among the ranked cells, 1 for the best; None where it is not ranked.
        mean_rank: Over the seeds that all ranked cells have, NaN where they share none.
    """

    cell: Cell
    is_baseline: bool
    runs: tuple[Run, ...]
    missing: tuple[int, ...]
    score: Summary
    difference: Difference | None
    errors: Mapping[int, Failure]
    place: int | None = None
    mean_rank: float = math.nan

    @cached_property
    def failed(self) -> tuple[int, ...]:
        """Seeds of the runs that failed."""
        return tuple(run.seed for run in self.runs if run.failed)

    @cached_property
    def values(self) -> dict[int, float]:
        """The metric by seed, of the runs that did not fail."""
        return {run.seed: run.value for run in self.runs if not run.failed}

    @property
    def ranked(self) -> bool:
        """Whether the cell takes part in comparisons: it has runs and none failed."""
        return bool(self.runs) and not self.failed

    def metric(self, tag: str) -> float:
        """Median of a logged metric over the runs, NaN if none logged it."""
        if tag not in self._medians:
            self._medians[tag] = self.typical(lambda run: run.metrics.get(tag, math.nan))
        return self._medians[tag]

    @cached_property
    def _medians(self) -> dict[str, float]:
        return {}

    def summary(self, tag: str) -> Summary:
        """Mean, std and n of a logged metric over the runs that did not fail and have it."""
        sound = [run.metrics.get(tag, math.nan) for run in self.runs if not run.failed]
        return summarise([value for value in sound if math.isfinite(value)])

    def typical(self, value: Callable[[Run], float]) -> float:
        """Median over the runs that have the number, NaN if none has."""
        known = [x for x in map(value, self.runs) if math.isfinite(x)]
        return median(known) if known else math.nan


@dataclass(frozen=True)
class Report:
    """All a report shows. `separation` indexes `ranked`; it is None where nothing can be said."""

    study: Study
    profile: Profile
    metric: Metric
    rows: tuple[Row, ...]
    separation: Separation | None
    prediction: Prediction | None = None

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The ablated axes."""
        return tuple(self.study.axes)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every finished run, cell by cell."""
        return tuple(run for row in self.rows for run in row.runs)

    @cached_property
    def ranked(self) -> tuple[Row, ...]:
        """The rows that take part in comparisons."""
        return tuple(row for row in self.rows if row.ranked)

    @cached_property
    def baseline(self) -> Row | None:
        """The baseline's row; None if the grid given does not hold it."""
        return next((row for row in self.rows if row.is_baseline), None)

    @cached_property
    def best(self) -> Row | None:
        """The ranked row with the best mean."""
        sign = 1 if self.study.direction == "maximize" else -1
        return max(self.ranked, key=lambda row: sign * row.score.mean, default=None)

    @cached_property
    def codes(self) -> Mapping[tuple[str, str, bool], Mapping[str, Sequence[int]]]:
        """Seeds by name of the cell, by commit, snapshot and whether that has uncommitted changes.

        Runs that name no state of the code are left out.
        """
        found: dict[tuple[str, str, bool], dict[str, list[int]]] = {}
        for row in self.rows:
            for run in row.runs:
                if git := run.record.get("git"):
                    commit, code = str(git.get("commit") or ""), str(git.get("code") or "")
                    cells = found.setdefault((commit, code, bool(git.get("dirty"))), {})
                    cells.setdefault(row.cell.name, []).append(run.seed)
        return found

    def medians(self, tag: str) -> Sequence[float]:
        """Median of a logged metric of each ranked row, NaN where none of its runs logged it."""
        if tag not in self._medians:
            self._medians[tag] = [row.metric(tag) for row in self.ranked]
        return self._medians[tag]

    @cached_property
    def _medians(self) -> dict[str, Sequence[float]]:
        return {}

    def distinct(self, value: Callable[[Run], Any]) -> list[Any]:
        """The different answers of the runs, in order of appearance, those of None left out."""
        return list(dict.fromkeys(x for x in map(value, self.runs) if x is not None))


def build(
    study: Study,
    profile: Profile,
    cells: Sequence[Cell],
    results: Iterable[Result],
    failures: Mapping[tuple[str, int], Failure] | None = None,
    prediction: Prediction | None = None,
) -> Report:
    """Order results by cell and seed and compute what the report shows.

    Args:
        study: The study; its seeds and cells say which runs there should be.
        profile: On what and how long the study was run.
        cells: The cells of the grid, in the order to show.
        results: The finished runs; those of other cells or seeds are left out.
        failures: Why runs without a result failed, by key of the cell and seed.
        prediction: What was said before the runs that they would take.

    Raises:
        UserError: None of the runs logged the study's metric.
    """
    finished = {(result.trial.cell.key, result.trial.seed): result for result in results}
    _check_metric(study.metric, finished.values())
    baseline = next((cell for cell in cells if dict(cell.labels) == dict(study.baseline)), None)
    rows = [_row(study, cell, cell is baseline, finished, failures or {}) for cell in cells]
    rows = _compared(rows, study.direction == "maximize")
    groups = [list(row.values.values()) for row in rows if row.ranked]
    metric = Metric(study.metric)
    return Report(study, profile, metric, tuple(rows), separation(groups), prediction)


def number(value: object) -> float:
    """A JSON number as float; NaN for null, for what is missing, and for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value)


def _check_metric(metric: str, results: Iterable[Result]) -> None:
    logged = [result.record["metrics"] for result in results]
    if logged and not any(metric in metrics for metrics in logged):
        names = ", ".join(sorted({name for metrics in logged for name in metrics}))
        raise UserError(f"{metric=} was logged by none of the {len(logged)} runs; logged: {names}")


def _run(result: Result, metric: str) -> Run:
    logged = result.record["metrics"].items()  # of numbers and nulls alone (`rundir`)
    metrics = {name: math.nan if value is None else float(value) for name, value in logged}
    timing = result.record.get("timing", {})
    return Run(
        seed=result.trial.seed,
        run_dir=result.trial.run_dir,
        value=metrics.get(metric, math.nan),
        metrics=metrics,
        record=result.record,
        broken_metric=broken(metrics, metric),
        total_s=number(timing.get("total_s") if result.wall_s is None else result.wall_s),
        loop_s=number(timing.get("loop_s")),
        workers=result.workers,
    )


def _row(
    study: Study,
    cell: Cell,
    is_baseline: bool,
    finished: Mapping[tuple[str, int], Result],
    failures: Mapping[tuple[str, int], Failure],
) -> Row:
    """Return the runs of a cell, not yet compared with others."""
    places = [(seed, (cell.key, seed)) for seed in study.seeds]
    runs = tuple(_run(finished[at], study.metric) for _, at in places if at in finished)
    missing = [(seed, at) for seed, at in places if at not in finished]
    return Row(
        cell=cell,
        is_baseline=is_baseline,
        runs=runs,
        missing=tuple(seed for seed, _ in missing),
        score=summarise([run.value for run in runs if not run.failed]),
        difference=None,
        errors={seed: failures[at] for seed, at in missing if at in failures},
    )


def _compared(rows: Sequence[Row], maximize: bool) -> list[Row]:
    """Return the rows with their differences from the baseline and their ranks."""
    ranked = [row for row in rows if row.ranked]
    baseline = next((row.values for row in ranked if row.is_baseline), {})
    others = [row for row in ranked if not row.is_baseline]
    gaps = differences([row.values for row in others], baseline)
    difference = {row.cell.key: gap for row, gap in zip(others, gaps, strict=True)}
    ranks = places([row.score.mean for row in ranked], maximize)
    means = mean_ranks([row.values for row in ranked], maximize)
    place = {row.cell.key: rank for row, rank in zip(ranked, ranks, strict=True)}
    mean_rank = {row.cell.key: mean for row, mean in zip(ranked, means, strict=True)}
    return [
        replace(
            row,
            difference=difference.get(row.cell.key),
            place=place.get(row.cell.key),
            mean_rank=mean_rank.get(row.cell.key, math.nan),
        )
        for row in rows
    ]
