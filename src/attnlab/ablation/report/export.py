"""The report's numbers as CSV, unrounded and in the units they were logged in."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from attnlab.ablation.report.rows import Report, Row, Run

COSTS = ("model/parameters", "model/gflops", "perf/images_per_s", "perf/peak_memory_mib")
GIT = ("commit", "dirty", "code")


def write_results(report: Report, path: Path) -> None:
    """Write a line per run: axes, seed, every metric logged, timing, commit and directory.

    Numbers keep every digit; what a run did not log is empty, what it logged as not finite is
    "nan". The timing depends on ``workers``, the runs at a time.
    """
    metrics = sorted({name for run in report.runs for name in run.metrics})
    lines = [
        {
            **_labels(report, row),
            "seed": run.seed,
            **_metrics(run),
            "steps": run.record.get("steps"),
            "epochs": run.record.get("epochs"),
            "total_s": run.total_s,
            "loop_s": run.loop_s,
            "overhead_s": run.overhead_s,
            "workers": run.workers,
            **{name: run.record.get("git", {}).get(name) for name in GIT},
            "run_dir": run.run_dir,
        }
        for row in report.rows
        for run in row.runs
    ]
    axes = [axis.name for axis in report.axes]
    timings = ["total_s", "loop_s", "overhead_s", "workers"]
    tail = ["steps", "epochs", *timings, *GIT, "run_dir"]
    _write(path, [*axes, "seed", *metrics, *tail], lines)


def write_summary(report: Report, path: Path) -> None:
    """Write a line per cell: its mean, std and n, its difference from the baseline, its costs.

    ``low95`` and ``high95`` are the ends of the bootstrap interval of the difference, ``student95``
    is half the width of Student's, ``p_holm`` the p-value after Holm's correction.

    Further metrics that the study asks for are there as mean and, with ``_std``, its deviation.
    """
    extra = report.study.extra_metrics
    lines = [{**_labels(report, row), **_summary(row), **_extra(row, extra)} for row in report.rows]
    _write(path, list(lines[0]), lines)


def _summary(row: Row) -> dict[str, object]:
    gap = row.difference
    return {
        "n": row.score.n,
        "missing": len(row.missing),
        "failed": len(row.failed),
        "in_error": len(row.errors),
        "mean": _known(row.score.mean),
        "std": _known(row.score.std),
        "pairs": gap.n if gap else None,
        "difference": gap.mean if gap else None,
        "low95": _known(gap.low) if gap else None,
        "high95": _known(gap.high) if gap else None,
        "student95": _known(gap.half_width) if gap else None,
        "p": _known(gap.p) if gap else None,
        "p_holm": _known(gap.p_holm) if gap else None,
        "place": row.place,
        "mean_rank": _known(row.mean_rank),
        "baseline": row.is_baseline,
        **{name: _known(row.metric(name)) for name in COSTS},
        "total_s": _known(row.typical(lambda run: run.total_s)),
        "overhead_s": _known(row.typical(lambda run: run.overhead_s)),
    }


def _extra(row: Row, tags: Sequence[str]) -> dict[str, float | None]:
    found = {tag: row.summary(tag) for tag in tags}
    values = {tag: (one.mean, one.std) for tag, one in found.items()}
    return {
        f"{tag}{ending}": _known(value)
        for tag, both in values.items()
        for ending, value in zip(("", "_std"), both, strict=True)
    }


def _metrics(run: Run) -> dict[str, object]:
    """What a run logged: whole numbers as such, null (which stands for not finite) as NaN."""
    logged = run.record["metrics"]
    return {name: run.metrics[name] if logged[name] is None else logged[name] for name in logged}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _labels(report: Report, row: Row) -> dict[str, object]:
    return {axis.name: row.cell.labels[axis.name] for axis in report.axes}


def _write(path: Path, names: Sequence[str], lines: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([line.get(name, "") for name in names] for line in lines)
