"""The columns of a report's tables: a heading and how a row reads under it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from attnlab.ablation.report.metric import NOTHING, Metric
from attnlab.ablation.report.rows import Report, Row
from attnlab.ablation.schema import Axis


@dataclass(frozen=True)
class Column:
    """One column; text is set left, numbers right. The heading says where a line may break."""

    heading: str
    text: Callable[[Row], str]
    is_number: bool = True


def axis_columns(report: Report) -> list[Column]:
    """The ablated values, one column per axis."""
    return [_axis_column(axis) for axis in report.axes]


def result_columns(report: Report) -> list[Column]:
    """The metric, each cell's rank and its difference from the baseline."""
    metric = report.metric
    unit = ", points" if metric.is_accuracy else ""
    return [
        Column(metric.label, lambda row: score(metric, row)),
        Column("rank\n(over seeds)", rank),
        Column(f"difference{unit}\n[95 % bootstrap]", lambda row: difference(metric, row)),
        Column("Student's\n±", lambda row: student(metric, row)),
        Column("p\n(Holm)", corrected_p),
        Column("differs", differs),
    ]


def extra_columns(report: Report) -> list[Column]:
    """The further metrics that the study asks for."""
    return [_extra_column(Metric(tag)) for tag in report.study.extra_metrics]


def cost_columns() -> list[Column]:
    """What a cell costs, as the median over its runs."""
    return [
        Column("parameters", lambda row: count(row.metric("model/parameters"))),
        Column("GFLOPs", lambda row: digits(row.metric("model/gflops"))),
        Column("images/s", lambda row: whole(row.metric("perf/images_per_s"))),
        Column("memory\n(MiB)", lambda row: whole(row.metric("perf/peak_memory_mib"))),
    ]


def time_columns() -> list[Column]:
    """Seconds per run, and how many of them lie outside the training and test loops."""
    return [
        Column("s/run", lambda row: digits(row.typical(lambda run: run.total_s))),
        Column("overhead (s)\nmedian, max", overhead),
    ]


def score(metric: Metric, row: Row) -> str:
    """Mean ± std (n) of the finite runs, and how many failed or ended in an error."""
    amiss = {"failed": len(row.failed), "in error": len(row.errors)}
    words = [f"{number} {what}" for what, number in amiss.items() if number]
    return ", ".join([metric.score(row.score)] * (row.score.n > 0 or not words) + words)


def rank(row: Row) -> str:
    """Rank of the mean and, in brackets, the mean rank over the seeds."""
    if row.place is None:
        return NOTHING
    return f"{row.place}" if math.isnan(row.mean_rank) else f"{row.place} ({row.mean_rank:.1f})"


def extra(metric: Metric, row: Row) -> str:
    """Mean ± std of a further metric; the runs are counted where some logged none."""
    found = row.summary(metric.tag)
    if not found.n:
        return NOTHING
    mean = metric.text(found.mean) if metric.is_accuracy else digits(found.mean)
    places = len(mean.partition(".")[2])
    std = digits(found.std) if "e" in mean else f"{metric.scale * found.std:.{places}f}"
    spread = "" if math.isnan(found.std) else f" ± {std}"
    return f"{mean}{spread}{f' ({found.n})' if found.n < row.score.n else ''}"


def difference(metric: Metric, row: Row) -> str:
    """Mean difference and its interval; the pairs are named where they are fewer than the runs."""
    gap = row.difference
    if gap is None:
        return "baseline" if row.is_baseline else NOTHING
    pairs = f" ({gap.n} pair{'s' * (gap.n > 1)})" if gap.n < max(row.score.n, 2) else ""
    if math.isnan(gap.low):
        return f"{metric.signed(gap.mean)}{pairs}"
    interval = f"[{metric.signed(gap.low)}, {metric.signed(gap.high)}]"
    return f"{metric.signed(gap.mean)} {interval}{pairs}"


def student(metric: Metric, row: Row) -> str:
    """Half the width of Student's interval of the difference."""
    if row.difference is None or math.isnan(row.difference.half_width):
        return NOTHING
    return metric.text(row.difference.half_width)


def corrected_p(row: Row) -> str:
    """p-value of the difference from the baseline, corrected."""
    if row.difference is None or math.isnan(row.difference.p_holm):
        return NOTHING
    p = row.difference.p_holm
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def differs(row: Row) -> str:
    """Whether the cell differs from the baseline, after correction."""
    answer = row.difference.differs if row.difference else None
    return NOTHING if answer is None else "yes" if answer else "no"


def overhead(row: Row) -> str:
    """Median and maximum over the runs of the seconds outside the training and test loops."""
    known = [run.overhead_s for run in row.runs if math.isfinite(run.overhead_s)]
    if not known:
        return NOTHING
    return f"{median(known):.2f}, {max(known):.2f}"


def short(row: Row) -> str:
    """The values of a cell without the names of its axes."""
    return "/".join(str(label) for label in row.cell.labels.values())


def count(value: float) -> str:
    """A count to four digits: 104.3k, 5.717M."""
    if math.isnan(value):
        return NOTHING
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.0f}"


def digits(value: float) -> str:
    """Three significant digits, or all those before the point."""
    return whole(value) if math.isnan(value) or value >= 1000 else f"{value:#.3g}".rstrip(".")


def brief(value: float) -> str:
    """A number of any size in a few characters, for the ticks of an axis."""
    return count(value) if abs(value) >= 1000 else f"{value:g}"


def whole(value: float) -> str:
    """A whole number with thousands set apart."""
    return NOTHING if math.isnan(value) else f"{value:,.0f}"


def _extra_column(metric: Metric) -> Column:
    return Column(metric.label, lambda row: extra(metric, row))


def _axis_column(axis: Axis) -> Column:
    return Column(axis.name, lambda row: str(row.cell.labels[axis.name]), is_number=axis.numeric)
