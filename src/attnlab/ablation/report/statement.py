"""What a report says in words, as plain text: verdict, gaps, conditions, how it was computed."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from attnlab.ablation.report.rows import Report

OVERHEAD_BAR_S = 1.0
LISA_NOTE = (
    "LiSA here is an independent operator built from the published abstracts; the equations are "
    "this project's; not a reproduction of the paper's numbers."
)


def verdict(report: Report) -> str:
    """Whether the study tells its cells apart, with the numbers that decide it."""
    found = report.separation
    if found is None:
        return (
            "This study cannot tell its cells apart: that takes two cells with valid runs, and two "
            "such runs in at least one of them."
        )
    metric, ranked = report.metric, report.ranked
    high, low = (
        f"{row.cell.name} ({metric.text(row.score.mean)}{metric.percent})"
        for row in (ranked[found.highest], ranked[found.lowest])
    )
    spread, twice = metric.text(found.spread), metric.text(2 * found.standard_error)
    judgement = "separates" if found.separates else "does not separate"
    return (
        f"This study {judgement} its cells at this budget: from {low} to {high} the means spread "
        f"over {spread}{metric.points}, twice the standard error over seeds is "
        f"{twice}{metric.points}. {_chance(found.chance, len(ranked))}"
    )


def curves_note(drawn: bool) -> str:
    """What the learning curves are there for, or that there are none."""
    if not drawn:
        return "No run left a learning curve."
    return (
        "A fixed budget partly measures how fast a cell learns and not only how far it gets: where "
        "curves still rise at the end, a longer training may order the cells differently."
    )


def differences(report: Report) -> str:
    """How many cells differ from the baseline; empty where none has an interval."""
    answers = [row.difference.excludes_zero for row in report.rows if row.difference]
    known = [answer for answer in answers if answer is not None]
    if not known:
        return ""
    return (
        f"The 95 % interval of the difference from the baseline excludes 0 for {sum(known)} of "
        f"{len(known)} cells."
    )


def gaps(report: Report) -> list[str]:
    """Plain words on every run that is missing or failed."""
    planned = len(report.rows) * len(report.study.seeds)
    missing = {row.cell.name: row.missing for row in report.rows if row.missing}
    failed = {row.cell.name: row.failed for row in report.rows if row.failed}
    lines = []
    if missing:
        count = _count(missing)
        verb = "is" if count == 1 else "are"
        lines.append(f"{count} of {planned} runs {verb} missing: {_listed(missing)}.")
    if failed:
        tags = report.distinct(lambda run: run.broken_metric)
        why = f"{_or(tags)} is not a finite number"
        lines.append(
            f"{_count(failed)} of {planned} runs failed ({why}): {_listed(failed)}. "
            "A cell with a failed run is not ranked."
        )
    if report.baseline is None or not report.baseline.ranked:
        lines.append("The baseline has no valid run, or a failed one: no differences are given.")
    return lines


def conditions(report: Report) -> list[tuple[str, str]]:
    """The facts a reader needs to judge or to repeat the study, as (name, fact)."""
    study, profile = report.study, report.profile
    baseline = ", ".join(f"{axis}={label}" for axis, label in study.baseline.items())
    facts = [
        ("Baseline", baseline),
        ("Metric", f"{report.metric.tag}, {_direction(report)}"),
        ("Budget", _budget(report)),
        ("Seeds", f"{len(study.seeds)} per cell, the same in every cell: {_join(study.seeds)}"),
        ("Profile", f"{profile.name}: {profile.about}"),
        ("Hardware", _differing([_hardware(x) for x in _records(report, "hardware")])),
        ("Side by side", _side_by_side(report)),
        ("Versions", _differing([_versions(x) for x in _records(report, "versions")])),
        ("Code", _code(report)),
        ("Overhead", overhead(report)),
    ]
    return [(name, fact) for name, fact in facts if fact]


def overhead(report: Report) -> str:
    """Seconds outside the training and test loops over all runs, against the bar."""
    known = [run.overhead_s for run in report.runs if math.isfinite(run.overhead_s)]
    if not known:
        return ""
    above = sum(seconds > OVERHEAD_BAR_S for seconds in known)
    return (
        f"{median(known):.2f} s outside the training and test loops per run (median; maximum "
        f"{max(known):.2f} s); {above} of {len(known)} runs above the bar of {OVERHEAD_BAR_S:g} s"
    )


def footnotes(report: Report) -> list[str]:
    """How the numbers were computed."""
    notes = [
        "mean ± std (n): sample standard deviation (n - 1) over the seeds. Difference: mean over "
        "the seeds that the cell and the baseline share of (cell minus baseline), with Student's t "
        "interval of these paired differences; each holds for itself, without correction for "
        "several comparisons; below two pairs there is no interval.",
        "Standard error of the verdict: that of a difference of two cell means, from the standard "
        "deviation within cells pooled over all of them and the n of the two cells, seeds taken "
        "as independent. The probability by chance is that of the studentised range.",
        "Parameters, GFLOPs, images/s, memory and seconds are medians over the runs. GFLOPs: "
        "forward pass of one image, the cost of Fourier transforms added by formula. images/s: "
        f"training{_company(report)}. memory: peak of the run. Overhead: wall-clock of a run's "
        "process outside the training and test loops.",
    ]
    if report.study.extra_metrics:
        notes.append(
            "Further metrics: mean ± std over the seeds, with the number of runs where some logged "
            f"none; as logged they are {_join(report.study.extra_metrics)}. docs/analysis.md says "
            "what diag/cka and diag/kernel measure."
        )
    return notes


def _side_by_side(report: Report) -> str:
    """How many trials shared the machine, which slows each of them; empty where unknown."""
    counts = sorted(report.distinct(lambda run: run.workers))
    return f"{_or(counts)} trial{'s' * (counts != [1])} at a time" if counts else ""


def _company(report: Report) -> str:
    counts = sorted(report.distinct(lambda run: run.workers))
    if counts == [1]:
        return ", one trial at a time"
    return f", with {_or(counts)} trials side by side" if counts else ""


def _or(values: Sequence[object]) -> str:
    return " or ".join(map(str, values))


def _chance(chance: float, cells: int) -> str:
    size = "less than 0.1 %" if chance < 0.001 else f"{100 * chance:.1f} %"
    return f"By chance alone {cells} equal cells would spread as far in {size} of such studies."


def _count(seeds: Mapping[str, Sequence[int]]) -> int:
    return sum(map(len, seeds.values()))


def _listed(seeds: Mapping[str, Sequence[int]]) -> str:
    return "; ".join(
        f"{cell} seed{'s' * (len(some) > 1)} {_join(some)}" for cell, some in seeds.items()
    )


def _direction(report: Report) -> str:
    return "higher is better" if report.study.direction == "maximize" else "lower is better"


def _budget(report: Report) -> str:
    steps = report.distinct(lambda run: run.record.get("steps"))
    epochs = report.distinct(lambda run: run.record.get("epochs"))
    if not steps:
        return ""
    passes = f", {_span(epochs)} epochs" if epochs else ""
    differ = "; the runs do not share one budget" if len(steps) > 1 else ""
    return f"{_span(steps)} steps{passes} per run{differ}"


def budget_line(report: Report) -> str:
    """Profile, budget and number of seeds, short enough for a caption."""
    steps = report.distinct(lambda run: run.record.get("steps"))
    budget = f" · {_span(steps)} steps" if steps else ""
    seeds = len(report.study.seeds)
    return f"profile {report.profile.name}{budget} · {seeds} seed{'s' * (seeds > 1)}"


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):,}", f"{max(values):,}"
    return low if low == high else f"{low} to {high}"


def _code(report: Report) -> str:
    commits = []
    for git in _records(report, "git"):
        changed = " with uncommitted changes" if git.get("dirty") else ""
        commits.append(f"{str(git.get('commit'))[:10]}{changed}")
    names = list(dict.fromkeys(commits))
    if len(names) < 2:
        return f"commit {names[0]}" if names else ""
    return f"the cells do not all come from one state of the code: {_join(names)}"


def _records(report: Report, part: str) -> list[dict[str, Any]]:
    return [run.record[part] for run in report.runs if run.record.get(part)]


def _hardware(record: dict[str, Any]) -> str:
    cores = f"{record['cores']} cores" if record.get("cores") else None
    return ", ".join(str(x) for x in (record.get("gpu"), record.get("cpu"), cores) if x)


def _versions(record: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in record.items() if version)


def _differing(texts: Sequence[str]) -> str:
    names = list(dict.fromkeys(texts))
    if len(names) < 2:
        return names[0] if names else ""
    return f"the runs differ: {'; '.join(names)}"


def _join(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)
