"""What the unfinished trials of a study will cost, and how far that may be off."""

import datetime
import heapq
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from attnlab.ablation import rundir
from attnlab.ablation.cells import Result, Trial
from attnlab.ablation.plan import Plan

PREDICTION = "prediction.json"
PROBED = ".probe.json"


@dataclass(frozen=True)
class Estimate:
    """What one trial takes: minutes, and one standard deviation of these, None if unknown."""

    minutes: float
    error: float | None


@dataclass(frozen=True)
class Basis:
    """What a prediction rests on.

    Attributes:
        source: In words, such as ``4 finished trials``.
        cells: What is known of some cells, by their keys.
        others: What a trial of any other cell takes.
    """

    source: str
    cells: Mapping[str, Estimate]
    others: Estimate

    def of(self, key: str) -> Estimate:
        """Return what a trial of the cell `key` takes."""
        return self.cells.get(key, self.others)


@dataclass(frozen=True)
class Prediction:
    """What is still to be spent.

    Attributes:
        trials: Number of trials to run.
        serial: Minutes of all of them, one by one.
        wall: Minutes with `workers` of them side by side.
        gpu_hours: GPUs of each trial times its hours, summed.
        error: One standard deviation of these, as a share; None if unknown.
        workers: Trials at a time.
        basis: What it rests on.
    """

    trials: int
    serial: float
    wall: float
    gpu_hours: float
    error: float | None
    workers: int
    basis: Basis

    def __str__(self) -> str:
        error = "error unknown" if self.error is None else f"± {100 * self.error:.0f} %"
        return (
            f"to run: {self.trials} trials, {self.serial:.1f} min one by one, "
            f"{self.wall:.1f} min with {self.workers} at a time"
            + (f", {self.gpu_hours:.1f} GPU-hours" if self.gpu_hours else "")
            + f" ({error}; from {self.basis.source})"
        )


def basis(plan: Plan, results: Iterable[Result]) -> Basis:
    """Return what is known of the duration of the trials of `plan`.

    A trial takes what its cell took with other seeds. Without those it takes what finished trials
    took on average; without any what a probe found; without one what the profile says.
    """
    finished: dict[str, list[float]] = {}
    for result in results:
        if (minutes := minutes_of(result)) is not None:
            finished.setdefault(result.trial.cell.key, []).append(minutes)
    if not finished:
        return read_probe(plan) or Basis(
            f"profile {plan.profile.name}", {}, Estimate(plan.profile.minutes_per_cell, None)
        )
    known = [minutes for each in finished.values() for minutes in each]
    spread = _spread(finished.values())
    cells = {}
    for key, each in finished.items():
        mean = statistics.fmean(each)
        cells[key] = Estimate(mean, None if spread is None else mean * spread)
    mean = statistics.fmean(known)
    others = Estimate(mean, statistics.stdev(known) if len(known) > 1 else None)
    return Basis(f"{len(known)} finished trial{'s' * (len(known) > 1)}", cells, others)


def minutes_of(result: Result) -> float | None:
    """Return what a finished trial took; None if it does not say.

    The time of its process counts where a driver took it, and the trial's own time elsewhere.
    """
    seconds = result.wall_s or result.record["timing"].get("total_s")
    return seconds / 60 if isinstance(seconds, int | float) and seconds > 0 else None


def predict(plan: Plan, results: Sequence[Result], workers: int, rests: Basis) -> Prediction:
    """Return what the unfinished trials of `plan` cost, with `workers` side by side."""
    done = {result.trial.run_dir for result in results}
    ends = [0.0] * workers
    errors: list[float | None] = []
    for trial in plan.trials:
        if trial.run_dir not in done:
            each = rests.of(trial.cell.key)
            errors.append(each.error)
            heapq.heapreplace(ends, ends[0] + each.minutes)
    serial = sum(
        rests.of(trial.cell.key).minutes for trial in plan.trials if trial.run_dir not in done
    )
    # What is wrong for one trial is probably wrong for all, so that errors add up like times.
    known = [error for error in errors if error is not None]
    return Prediction(
        trials=len(errors),
        serial=serial,
        wall=max(ends),
        gpu_hours=serial / 60 * plan.profile.gpus_per_cell * plan.profile.nodes_per_cell,
        error=sum(known) / serial if known and len(known) == len(errors) else None,
        workers=workers,
        basis=rests,
    )


def note(plan: Plan, results: Sequence[Result], trials: Sequence[Trial], workers: int) -> None:
    """Write down what a run that starts now is expected to take; its report says what it took.

    Args:
        plan: The study.
        results: What has finished.
        trials: What is to run; if that is nothing, nothing is written.
        workers: Trials at a time.
    """
    if not trials:
        return
    rests = basis(plan, results)
    expected = predict(replace(plan, trials=tuple(trials)), [], workers, rests)
    keys = dict.fromkeys(trial.cell.key for trial in trials)
    record = {
        "made": _now(),
        "source": rests.source,
        "cells": {key: asdict(rests.of(key)) for key in keys},
        "wall_minutes": expected.wall,
        "gpu_hours": expected.gpu_hours,
        "workers": expected.workers,
    }
    rundir.write_json(plan.directory / PREDICTION, record)


def write_probe(plan: Plan, found: Basis) -> Path:
    """Keep what a probe found for the runs to come; return where."""
    path = plan.directory / PROBED
    rundir.write_json(path, {"made": _now(), **asdict(found)})
    return path


def read_probe(plan: Plan) -> Basis | None:
    """Return what an earlier probe found of this study; None if there was none."""
    record = rundir.read_json(plan.directory / PROBED)
    try:
        cells = {key: Estimate(**each) for key, each in record["cells"].items()}
        return Basis(f"{record['source']}, {record['made']}", cells, Estimate(**record["others"]))
    except (KeyError, TypeError, AttributeError):
        return None


def _spread(groups: Iterable[Sequence[float]]) -> float | None:
    """Return the relative standard deviation within groups, pooled; None without a repetition."""
    squares, freedom = 0.0, 0
    for each in groups:
        mean = statistics.fmean(each)
        squares += sum((value / mean - 1) ** 2 for value in each)
        freedom += len(each) - 1
    return math.sqrt(squares / freedom) if freedom else None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
