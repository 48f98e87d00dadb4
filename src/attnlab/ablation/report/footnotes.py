"""How a report's numbers were computed."""

from attnlab.ablation.report import words
from attnlab.ablation.report.conditions import workers
from attnlab.ablation.report.differences import (
    COVERAGE,
    ENUMERATED,
    PLAIN_COVERAGE,
    RESAMPLES,
)
from attnlab.ablation.report.rows import Report


def footnotes(report: Report) -> list[str]:
    """The notes that belong to this report, a paragraph each."""
    notes = [
        "mean ± std (n): sample standard deviation (n - 1) over the seeds. Rank: of the mean, "
        "equal means share the better one; in brackets the mean over the seeds that all ranked "
        "cells have of the rank within a seed.",
        f"Difference: mean over the seeds that the cell and the baseline share of (cell minus "
        f"baseline). {_interval(report)}",
        "p: two-sided, of the paired t-test, after Holm's correction over all cells compared with "
        "the baseline; a cell differs where it is below 0.05. The intervals are not corrected: "
        "each holds for itself. A test that assumes no normal noise (sign flips) cannot reach 0.05 "
        "below 6 seeds.",
        "Standard error of the verdict: that of a difference of two cell means, from the standard "
        "deviation within cells pooled over all of them and the n of the two cells, seeds taken "
        "as independent. The probability by chance is that of the studentised range.",
        "Parameters, GFLOPs, images/s, memory and seconds are medians over the runs. GFLOPs: "
        "forward pass of one image, the cost of Fourier transforms added by formula. images/s: "
        f"training{_company(report)}. memory: peak of the run. Overhead: wall-clock of a run's "
        "process outside the training and test loops. Pareto front: cells that no other cell "
        "beats in the metric without costing more, by these means and medians, noise apart.",
    ]
    if report.study.extra_metrics:
        notes.append(
            "Further metrics: mean ± std over the seeds, with the number of runs where some logged "
            f"none; as logged they are {words.join(report.study.extra_metrics)}. docs/analysis.md "
            "says what diag/cka and diag/kernel measure."
        )
    return notes


def _interval(report: Report) -> str:
    """What the intervals of the difference are, and what they are worth at so few pairs."""
    pairs = sorted({row.difference.n for row in report.rows if row.difference})
    pairs = [n for n in pairs if n > 1]
    if not pairs:
        return "Below two such seeds there is no interval."
    small = [n for n in pairs if n in COVERAGE]
    how = f"all resamples up to {ENUMERATED} pairs, {RESAMPLES:,} drawn with a fixed seed above"
    worth = "; ".join(
        f"with {n} pairs {COVERAGE[n]} %, where a plain percentile interval holds it in "
        f"{PLAIN_COVERAGE[n]} %"
        for n in small
    )
    measured = (
        f" Measured on simulated studies with normal noise, it holds the true difference: {worth}; "
        "with strongly skewed noise about 88 %."
        if small
        else ""
    )
    return (
        f"Its 95 % interval is a bootstrap over the pairs ({how}): the percentile interval with "
        "its ends drawn away from the mean by t/z · sqrt(n / (n - 1)), which undoes that few pairs "
        f"make it too narrow.{measured} Student's ±: half the width of Student's t interval of the "
        "same differences. Below two pairs there is no interval."
    )


def _company(report: Report) -> str:
    counts = workers(report)
    if counts == [1]:
        return ", one trial at a time"
    return f", with {words.either(counts)} trials side by side" if counts else ""
