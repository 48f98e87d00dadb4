"""Learning curves: the validation metric against the step, as a mean with a band over seeds."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, stdev

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlab.ablation.report import style
from attnlab.ablation.report.columns import short
from attnlab.ablation.report.conditions import budget_line
from attnlab.ablation.report.metric import Metric
from attnlab.ablation.report.rows import Report, Row, Run, number

COLUMNS = 2
PANELS, LINES = 8, 12
"""Most panels, and most curves in each, that a figure of the whole grid has."""


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


def curves_figure(report: Report, compact: bool = False) -> Figure | None:
    """Draw a curve per cell: the first axis as colours, a panel per value of the others.

    Of a grid with more cells than lines that can be told apart, one panel shows the best cells and
    the baseline, and only their files are read.

    Returns:
        None if no run logged the validation metric.
    """
    metric = curve_metric(report)
    panels = _panels(report)
    drawn = {
        row.cell.key: curve(row, metric.tag) for panel in panels for row in panel.rows.values()
    }
    if not any(one.steps for one in drawn.values()):
        return None
    columns = min(COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    caption = f"{budget_line(report)} · mean over seeds, band: ± std"
    with matplotlib.rc_context(style.settings(compact)):
        title = f"{report.study.name}: learning curves"
        fig = style.figure(0.9 + (2.6 if compact else 3.4) * lines, title, caption, compact)
        grid = fig.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        axes = list(grid.flat)
        for ax, panel in zip(axes, panels, strict=False):
            _draw(ax, panel, drawn, metric)
            ax.set_title(panel.title, loc="left", fontsize=10)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        if compact:
            style.legend_below(fig, grid[0, 0], panels[0].legend)
        else:
            style.legend(grid[0, -1], panels[0].legend)
        for ax in grid[:, 0]:
            ax.set_ylabel(metric.label)
        for ax in grid[-1, :]:
            ax.set_xlabel("step")
    return fig


@dataclass(frozen=True)
class Panel:
    """What one pair of axes draws: a row per name, with a colour each; names may lack a row."""

    title: str
    legend: str
    names: Sequence[str]
    colours: Sequence[str]
    rows: Mapping[str, Row]


def _panels(report: Report) -> list[Panel]:
    first, *others = report.axes
    combinations = list(product(*([label for label, _ in axis.cells] for axis in others)))
    if len(combinations) > PANELS or len(first.cells) > LINES:
        return [_best(report)]
    found = {tuple(row.cell.labels[axis.name] for axis in report.axes): row for row in report.rows}
    names = [str(label) for label, _ in first.cells]
    return [
        Panel(
            title=", ".join(f"{a.name}={v}" for a, v in zip(others, values, strict=True)),
            legend=first.name,
            names=names,
            colours=style.colours(first),
            rows={
                str(label): found[label, *values]
                for label, _ in first.cells
                if (label, *values) in found
            },
        )
        for values in combinations
    ]


def _best(report: Report) -> Panel:
    """The best cells, and the baseline."""
    best = sorted(report.ranked, key=lambda row: row.place or 0)[: len(style.CATEGORIES) - 1]
    shown = [*best, *(row for row in [report.baseline] if row and row not in best)]
    marks = [" (baseline)" if row.is_baseline else "" for row in shown]
    names = [f"{short(row)}{mark}" for row, mark in zip(shown, marks, strict=True)]
    title = f"the {len(best)} best of {len(report.rows):,} cells"
    legend = "/".join(axis.name for axis in report.axes)
    rows = dict(zip(names, shown, strict=True))
    return Panel(title, legend, names, style.CATEGORIES, rows)


def _draw(ax: Axes, panel: Panel, drawn: dict[str, Curve], metric: Metric) -> None:
    for index, name in enumerate(panel.names):
        row = panel.rows.get(name)
        one = drawn[row.cell.key] if row else Curve((), (), ())
        colour = panel.colours[index]
        mean = [metric.scale * value for value in one.mean]
        low = [metric.scale * (m - s) for m, s in zip(one.mean, one.std, strict=True)]
        high = [metric.scale * (m + s) for m, s in zip(one.mean, one.std, strict=True)]
        every = max(1, len(one.steps) // 10)  # markers tell colours apart, they need not be dense
        (line,) = ax.plot(one.steps, mean, color=colour, label=name)
        line.set(marker=style.MARKERS[index % len(style.MARKERS)], markersize=4, markevery=every)
        ax.fill_between(one.steps, low, high, color=colour, alpha=0.15, linewidth=0)
    style.bare(ax, "y")
