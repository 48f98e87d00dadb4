"""A study at a glance: the few numbers that a page opens with and an overview lists."""

from attnlab.ablation.report import words
from attnlab.ablation.report.rows import Report

TOLD_APART = "are the cells told apart?"


def tiles(report: Report) -> list[tuple[str, str]]:
    """Return what is told at a glance, as (number, what it is)."""
    return [
        (runs(report), "runs finished"),
        (f"{len(report.rows):,}", f"cells, {words.count(len(report.study.seeds), 'seed')} each"),
        (best(report), f"best: {report.best.cell.name}" if report.best else "best"),
        (differing(report), "cells differ from the baseline"),
        (told_apart(report), TOLD_APART),
    ]


def told_apart(report: Report) -> str:
    """Return whether the study separates its cells, by more than chance would."""
    found = report.separation
    if found is None or not found.separates:
        return "no" if found else "unknown"
    return "yes" if found.chance < 0.05 else "perhaps"


def runs(report: Report) -> str:
    """Return how many of the planned runs finished."""
    planned = len(report.rows) * len(report.study.seeds)
    return f"{len(report.runs):,} of {planned:,}"


def best(report: Report) -> str:
    """Return the best mean with its unit."""
    if report.best is None:
        return "—"
    return f"{report.metric.text(report.best.score.mean)}{report.metric.percent}"


def differing(report: Report) -> str:
    """Return how many cells differ from the baseline after correction, of how many."""
    answers = [row.difference.differs for row in report.rows if row.difference]
    known = [answer for answer in answers if answer is not None]
    return f"{sum(known):,} of {len(known):,}" if known else "—"
