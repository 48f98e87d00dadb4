"""Learning curves: the validation metric against the step, as a mean with a band over seeds."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, stdev

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlab.ablation.report import style
from attnlab.ablation.report.metric import Metric
from attnlab.ablation.report.rows import Report, Row, Run, number
from attnlab.ablation.report.statement import budget_line

COLUMNS = 2


@dataclass(frozen=True)
class Curve:
    """Mean and sample standard deviation over the seeds at the steps all runs of a cell share."""

    steps: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float]


def curve_metric(report: Report) -> Metric:
    """The validation metric that goes with the study's: "val/top1" for "test/top1"."""
    return Metric(f"val/{report.metric.tag.rpartition('/')[2]}")


def read(run: Run, tag: str) -> dict[float, float]:
    """Finite values of one metric by step from a run's ``metrics.jsonl``; empty without one.

    A resumed run repeats steps (the last value counts) and a killed one may leave a torn line,
    which is passed over.
    """
    try:
        lines = (run.run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    values = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        step, value = number(entry.get("step")), number(entry.get(tag))
        if math.isfinite(step) and math.isfinite(value):
            values[step] = value
    return values


def curve(row: Row, tag: str) -> Curve:
    """The curve of one cell; no steps where its runs have none in common."""
    runs = [values for values in (read(run, tag) for run in row.runs) if values]
    steps = sorted(set.intersection(*(set(values) for values in runs))) if runs else []
    columns = [[values[step] for values in runs] for step in steps]
    return Curve(
        steps=steps,
        mean=[fmean(column) for column in columns],
        std=[stdev(column) if len(column) > 1 else 0.0 for column in columns],
    )


def curves_figure(report: Report) -> Figure | None:
    """Draw a curve per cell: the first axis as colours, a panel per value of the others.

    Returns:
        None if no run logged the validation metric.
    """
    metric = curve_metric(report)
    drawn = {row.cell.key: curve(row, metric.tag) for row in report.rows}
    if not any(one.steps for one in drawn.values()):
        return None
    first, *others = report.axes
    panels = list(product(*([label for label, _ in axis.cells] for axis in others)))
    columns = min(COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    caption = f"{budget_line(report)} · mean over seeds, band: ± std"
    with matplotlib.rc_context(style.SETTINGS):
        fig = style.figure(0.9 + 3.4 * lines, f"{report.study.name}: learning curves", caption)
        grid = fig.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        axes = list(grid.flat)
        for ax, panel in zip(axes, panels, strict=False):
            names = dict(zip((axis.name for axis in others), panel, strict=True))
            rows = [row for row in report.rows if names.items() <= dict(row.cell.labels).items()]
            _draw(ax, report, rows, drawn, metric)
            ax.set_title(", ".join(f"{k}={v}" for k, v in names.items()), loc="left", fontsize=10)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        style.legend(grid[0, -1], first.name)
        for ax in grid[:, 0]:
            ax.set_ylabel(metric.label)
        for ax in grid[-1, :]:
            ax.set_xlabel("step")
    return fig


def _draw(
    ax: Axes, report: Report, rows: Sequence[Row], drawn: dict[str, Curve], metric: Metric
) -> None:
    axis = report.axes[0]
    by_label = {row.cell.labels[axis.name]: row for row in rows}
    for index, (label, _) in enumerate(axis.cells):
        one = drawn[by_label[label].cell.key] if label in by_label else Curve((), (), ())
        colour = style.colours(axis)[index]
        mean = [metric.scale * value for value in one.mean]
        low = [metric.scale * (m - s) for m, s in zip(one.mean, one.std, strict=True)]
        high = [metric.scale * (m + s) for m, s in zip(one.mean, one.std, strict=True)]
        every = max(1, len(one.steps) // 10)  # markers tell colours apart, they need not be dense
        (line,) = ax.plot(one.steps, mean, color=colour, label=str(label))
        line.set(marker=style.MARKERS[index % len(style.MARKERS)], markersize=4, markevery=every)
        ax.fill_between(one.steps, low, high, color=colour, alpha=0.15, linewidth=0)
    style.bare(ax, "y")
