"""What a report says first, as plain text: the verdict, and what is missing from it."""

from collections.abc import Mapping, Sequence

from attnlab.ablation.report import words
from attnlab.ablation.report.rows import Report
from attnlab.ablation.report.sources import sources

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
    """How many cells differ from the baseline; empty where none has a p-value."""
    answers = [row.difference.differs for row in report.rows if row.difference]
    known = [answer for answer in answers if answer is not None]
    if not known:
        return ""
    return (
        f"{sum(known):,} of {words.count(len(known), 'cell')} "
        f"differ{'s' * (sum(known) == 1)} from the baseline after correction for {len(known):,} "
        f"comparison{'s' * (len(known) > 1)} (Holm, 5 %)."
    )


def gaps(report: Report) -> list[str]:
    """Plain words on every run that is missing or failed, and on code that differs."""
    planned = f"{len(report.rows) * len(report.study.seeds):,}"
    missing = {row.cell.name: row.missing for row in report.rows if row.missing}
    failed = {row.cell.name: row.failed for row in report.rows if row.failed}
    lines = []
    if missing:
        count = _count(missing)
        verb = "is" if count == 1 else "are"
        lines.append(f"{count:,} of {planned} runs {verb} missing: {_listed(missing)}.")
    if stopped := _errors(report):
        count = sum(len(row.errors) for row in report.rows)
        lines.append(f"{count:,} of these ended in an error: {words.some(stopped)}.")
    if failed:
        tags = report.distinct(lambda run: run.broken_metric)
        why = f"{words.either(tags)} is not a finite number"
        lines.append(
            f"{_count(failed):,} of {planned} runs failed ({why}): {_listed(failed)}. "
            "A cell with a failed run is not ranked."
        )
    if report.baseline is None or not report.baseline.ranked:
        lines.append("The baseline has no valid run, or a failed one: no differences are given.")
    states = len(sources(report))
    if states > 1:
        lines.append(f"The runs come from {states} states of the code, listed under Code.")
    return lines


def _chance(chance: float, cells: int) -> str:
    size = "less than 0.1 %" if chance < 0.001 else f"{100 * chance:.1f} %"
    return f"By chance alone {cells:,} equal cells would spread as far in {size} of such studies."


def _errors(report: Report) -> list[str]:
    """Every run whose latest attempt ended in an error, and which."""
    return [
        f"{words.seeds(row.cell.name, [seed])}: {failure.error} "
        f"({failure.kind}, attempt {failure.attempt})"
        for row in report.rows
        for seed, failure in row.errors.items()
    ]


def _count(seeds: Mapping[str, Sequence[int]]) -> int:
    return sum(map(len, seeds.values()))


def _listed(seeds: Mapping[str, Sequence[int]]) -> str:
    return words.some([words.seeds(cell, some) for cell, some in seeds.items()])
