"""Under which conditions a study was run: what a reader needs to judge or to repeat it."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from attnlab.ablation.report import words
from attnlab.ablation.report.rows import Report, Run
from attnlab.ablation.report.sources import sources

OVERHEAD_BAR_S = 1.0


def conditions(report: Report) -> list[tuple[str, str]]:
    """The conditions, as (name, fact)."""
    study, profile = report.study, report.profile
    baseline = ", ".join(f"{axis}={label}" for axis, label in study.baseline.items())
    facts = [
        ("Baseline", baseline),
        ("Metric", f"{report.metric.tag}, {_direction(report)}"),
        ("Budget", _budget(report)),
        ("Seeds", f"{len(study.seeds)} per cell, the same in every cell: {_seeds(report)}"),
        ("Profile", f"{profile.name}: {profile.about}"),
        ("Hardware", _differing([_hardware(x) for x in _records(report, "hardware")])),
        ("Side by side", _side_by_side(report)),
        ("Versions", _differing([_versions(x) for x in _records(report, "versions")])),
        ("Code", _code(report)),
        ("Overhead", overhead(report)),
        ("Prediction", prediction(report)),
    ]
    return [(name, fact) for name, fact in facts if fact]


def overhead(report: Report) -> str:
    """Seconds outside the training and test loops over all runs, and the bar where one holds.

    On SLURM each process starts Python and imports torch, which a plain srun would do as well.
    """
    known = [run for run in report.runs if math.isfinite(run.overhead_s)]
    if not known:
        return ""
    seconds = [run.overhead_s for run in known]
    spent = (
        f"{median(seconds):.2f} s outside the training and test loops per run (median; maximum "
        f"{max(seconds):.2f} s)"
    )
    if any("SLURM_JOB_ID" in run.record.get("placement", {}) for run in known):
        return f"{spent}; on SLURM with the start of Python and what an end before time cost"
    above = sum(each > OVERHEAD_BAR_S for each in seconds)
    return f"{spent}; {above} of {len(known)} runs above the bar of {OVERHEAD_BAR_S:g} s"


def prediction(report: Report) -> str:
    """What was predicted, held against what the runs since then took; empty without one."""
    stated = report.prediction
    if stated is None:
        return ""
    pairs = [
        (estimate, run)
        for row in report.rows
        if (estimate := stated.cells.get(row.cell.key))
        for run in row.runs
        if math.isfinite(run.total_s) and _since(stated.made, run)
    ]
    origin = f"from {stated.source}, {stated.workers} at a time"
    if not pairs:
        return f"made {stated.made} {origin}; no run was started and has finished since"
    predicted = sum(estimate.minutes for estimate, _ in pairs)
    taken = sum(run.total_s for _, run in pairs) / 60
    off = [abs(run.total_s / 60 / each.minutes - 1) for each, run in pairs if each.minutes]
    single = f"; a single run was off by {100 * median(off):.0f} % (median)" if off else ""
    known = [(each.minutes, each.error, run) for each, run in pairs if each.error is not None]
    within = sum(abs(run.total_s / 60 - minutes) <= 2 * error for minutes, error, run in known)
    said = f", {within} of {len(known)} within twice the error stated" if known else ""
    gpus = report.profile.gpus_per_cell
    hours = f", {taken * gpus / 60:.1f} of {stated.gpu_hours:.1f} GPU-hours" if gpus else ""
    share = f" ({100 * (taken / predicted - 1):+.0f} %)" if predicted else ""
    return (
        f"{predicted:.1f} min one by one ({origin}) for the {words.count(len(pairs), 'run')} since "
        f"{stated.made}; they took {taken:.1f} min{share}{hours}{single}{said}. Wall-clock: "
        f"predicted {stated.wall_minutes:.1f} min for all, {_wall([run for _, run in pairs]):.1f} "
        "min from the first start to the last end of these"
    )


def budget_line(report: Report) -> str:
    """Profile, budget and number of seeds, short enough for a caption."""
    steps = report.distinct(lambda run: run.record.get("steps"))
    budget = f" · {words.span(steps)} steps" if steps else ""
    seeds = words.count(len(report.study.seeds), "seed")
    return f"profile {report.profile.name}{budget} · {seeds}"


def workers(report: Report) -> list[int]:
    """How many trials ran at a time, the different answers in order."""
    return sorted(report.distinct(lambda run: run.workers))


def _side_by_side(report: Report) -> str:
    """How many trials shared the machine, which slows each of them; empty where unknown."""
    counts = workers(report)
    return f"{words.either(counts)} trial{'s' * (counts != [1])} at a time" if counts else ""


def _seeds(report: Report) -> str:
    return words.some([str(seed) for seed in report.study.seeds], ", ")


def _direction(report: Report) -> str:
    return "higher is better" if report.study.direction == "maximize" else "lower is better"


def _budget(report: Report) -> str:
    steps = report.distinct(lambda run: run.record.get("steps"))
    epochs = report.distinct(lambda run: run.record.get("epochs"))
    if not steps:
        return ""
    passes = f", {words.span(epochs)} epochs" if epochs else ""
    differ = "; the runs do not share one budget" if len(steps) > 1 else ""
    return f"{words.span(steps)} steps{passes} per run{differ}"


def _code(report: Report) -> str:
    found = sources(report)
    if len(found) < 2:
        return found[0].name if found else ""
    states = [
        f"{one.name}: {words.count(one.runs, 'run')} of {words.some(one.cells)}" for one in found
    ]
    return f"the runs do not all come from one state of the code. {words.some(states, '. ')}"


def _records(report: Report, part: str) -> list[dict[str, Any]]:
    return [run.record[part] for run in report.runs if run.record.get(part)]


def _hardware(record: dict[str, Any]) -> str:
    cores = words.count(record["cores"], "core") if record.get("cores") else None
    return ", ".join(str(x) for x in (record.get("gpu"), record.get("cpu"), cores) if x)


def _versions(record: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in record.items() if version)


def _differing(texts: Sequence[str]) -> str:
    names = list(dict.fromkeys(texts))
    if len(names) < 2:
        return names[0] if names else ""
    return f"the runs differ: {words.some(names)}"


def _since(made: str, run: Run) -> bool:
    """Whether a run was started after a moment; both are rounded down to seconds."""
    try:
        moment = datetime.fromisoformat(made).replace(microsecond=0)
        return datetime.fromisoformat(str(run.record.get("started"))) >= moment
    except (TypeError, ValueError):  # TypeError: one has a zone and the other has none
        return False


def _wall(runs: Sequence[Run]) -> float:
    """Minutes from the first start to the last end."""
    starts = [datetime.fromisoformat(run.record["started"]) for run in runs]
    spans = [timedelta(seconds=run.total_s) for run in runs]
    ends = [start + span for start, span in zip(starts, spans, strict=True)]
    return (max(ends) - min(starts)).total_seconds() / 60
