"""The metric against what it costs: which cells no other beats without costing more."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from attnlab.ablation.report import columns, style
from attnlab.ablation.report.columns import Column
from attnlab.ablation.report.conditions import budget_line
from attnlab.ablation.report.metric import NOTHING
from attnlab.ablation.report.rows import Report, Row

LABELLED = 5
"""Most cells of a front that are named in the figure."""
BARS = 60
"""Most cells that are drawn with their spread."""
SPARSE = 1000
"""Most points that stay shapes in a vector picture; more become pixels."""


@dataclass(frozen=True)
class Cost:
    """Something a cell costs, or, where `more_is_better`, delivers."""

    tag: str
    label: str
    more_is_better: bool = False


COSTS = (
    Cost("model/parameters", "parameters"),
    Cost("model/gflops", "GFLOPs"),
    Cost("perf/images_per_s", "images/s", more_is_better=True),
    Cost("perf/peak_memory_mib", "memory (MiB)"),
)


def front(cost: Sequence[float], value: Sequence[float]) -> list[int]:
    """Return the points that no other beats: none costs less or as much and has more value.

    Of points that are equal in both, all are returned.

    Args:
        cost: Of each point, less is better; NaN keeps a point out.
        value: Of each point, more is better.

    Returns:
        Indices by rising cost.
    """
    costs, values = np.asarray(cost, dtype=np.float64), np.asarray(value, dtype=np.float64)
    order = np.lexsort((-values, costs))
    order = order[np.isfinite(costs[order])]
    best_before = np.maximum.accumulate(np.concatenate(([-np.inf], values[order])))[:-1]
    better = values[order] > best_before
    leader = order[np.maximum.accumulate(np.where(better, np.arange(len(order)), 0))]
    equal = (values[order] == values[leader]) & (costs[order] == costs[leader])
    return [int(index) for index in order[better | equal]]


def fronts(report: Report) -> dict[str, list[Row]]:
    """Return the Pareto front of the ranked cells for each cost that they logged."""
    sign = 1.0 if report.study.direction == "maximize" else -1.0
    values = [sign * row.score.mean for row in report.ranked]
    found = {}
    for cost in COSTS:
        amounts = report.medians(cost.tag)
        signed = [-amount if cost.more_is_better else amount for amount in amounts]
        if chosen := front(signed, values):
            found[cost.tag] = [report.ranked[index] for index in chosen]
    return found


def front_column(report: Report) -> Column:
    """The costs on whose front a cell lies."""
    on = {tag: {row.cell.key for row in rows} for tag, rows in fronts(report).items()}
    labels = {cost.tag: cost.label.partition(" ")[0] for cost in COSTS}

    def text(row: Row) -> str:
        names = [labels[tag] for tag, keys in on.items() if row.cell.key in keys]
        if len(names) == len(on) > 2:
            return "all"
        return ", ".join(names) or NOTHING

    return Column("on the\nfront of", text, is_number=False)


def pareto_figure(report: Report, compact: bool = False) -> Figure | None:
    """Draw the metric against each cost, a panel each, the front joined and named.

    Returns:
        None where no ranked cell logged a cost.
    """
    found = fronts(report)
    costs = [cost for cost in COSTS if cost.tag in found]
    if not costs:
        return None
    lines = math.ceil(len(costs) / 2)
    caption = f"{budget_line(report)} · joined: the Pareto front · costs are medians over seeds"
    with matplotlib.rc_context(style.settings(compact)):
        title = (
            f"{report.study.name}: what accuracy costs"
            if report.metric.is_accuracy
            else (f"{report.study.name}: {report.metric.label} against cost")
        )
        fig = style.figure(0.7 + 2.6 * lines, title, caption, compact)
        grid = fig.subplots(lines, min(2, len(costs)), sharey=True, squeeze=False)
        for ax, cost in zip(grid.flat, costs, strict=False):
            _draw(ax, report, cost, found[cost.tag])
        for ax in grid.flat[len(costs) :]:
            ax.set_visible(False)
        for ax in grid[:, 0]:
            ax.set_ylabel(report.metric.label)
    return fig


def _draw(ax: Axes, report: Report, cost: Cost, best: Sequence[Row]) -> None:
    scale = report.metric.scale
    known = zip(report.ranked, report.medians(cost.tag), strict=True)
    pairs = [(row, amount) for row, amount in known if math.isfinite(amount)]
    rows = [row for row, _ in pairs]
    x = np.array([amount for _, amount in pairs])
    y = np.array([scale * row.score.mean for row in rows])
    if len(rows) <= BARS:
        spread = [scale * row.score.std for row in rows]
        ax.errorbar(x, y, yerr=spread, fmt="none", ecolor=style.GREY, elinewidth=0.8, alpha=0.6)
    many = len(rows) > BARS
    ax.scatter(
        x, y, s=8 if many else 26, color=style.GREY, alpha=0.35 if many else 0.9, linewidth=0,
        rasterized=len(rows) > SPARSE, zorder=3,
    )  # fmt: skip
    for at in (index for index, row in enumerate(rows) if row.is_baseline):
        ax.scatter(x[at], y[at], s=70, marker="D", facecolor="none", **BASELINE)
    points = [(row.metric(cost.tag), scale * row.score.mean) for row in best]
    ax.plot(*zip(*points, strict=True), color=style.CATEGORIES[0], marker="o", markersize=5.5,
            linewidth=1.6, zorder=5)  # fmt: skip
    if min(x) > 0 and max(x) > 8 * min(x):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=6))
        ax.minorticks_off()
    else:
        ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: columns.brief(value)))
    ax.margins(x=0.2, y=0.14)
    _name(ax, report, best, points, cost.more_is_better)
    ax.set_xlabel(f"{cost.label} {'→ more is better' if cost.more_is_better else '→ costs more'}")
    style.bare(ax, "y")


BASELINE: Any = {"edgecolor": style.CATEGORIES[1], "linewidth": 1.6, "zorder": 4}


def _name(
    ax: Axes,
    report: Report,
    best: Sequence[Row],
    points: Sequence[tuple[float, float]],
    to_left: bool,
) -> None:
    """Name a few cells of the front, the ends among them."""
    count = min(LABELLED, len(best))
    picked = {round(k * (len(best) - 1) / max(count - 1, 1)) for k in range(count)}
    for index in sorted(picked):
        text = ax.annotate(
            columns.short(best[index]),
            points[index],
            xytext=(5 if to_left else -5, 5),
            textcoords="offset points",
            ha="left" if to_left else "right",
            fontsize=8,
            zorder=6,
        )
        text.set_in_layout(False)
