"""A grid of two axes as a heat map: the mean of each cell, and how many runs stand behind it."""

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from attnlab.ablation.report import style
from attnlab.ablation.report.conditions import budget_line
from attnlab.ablation.report.rows import Report, Row

Array = NDArray[np.float64]
WRITTEN = 150
"""Most cells whose numbers are written into them."""
NAMED = 25
"""Most values of an axis that are all named."""
SHADES = LinearSegmentedColormap.from_list("shades", ("#f1f6fb", "#7fb2d9", "#0072B2", "#083a5c"))


def heatmap_figure(report: Report, compact: bool = False) -> Figure | None:
    """Draw the cells of two axes, the better the darker; the baseline is framed.

    Returns:
        None for fewer or more axes, or without any ranked cell.
    """
    if len(report.axes) != 2 or not report.ranked:
        return None
    down, across = report.axes
    lines, count = len(down.cells), len(across.cells)
    rows = {tuple(row.cell.labels[axis.name] for axis in report.axes): row for row in report.rows}
    grid = [[rows.get((a, b)) for b, _ in across.cells] for a, _ in down.cells]
    scale = report.metric.scale
    means = np.array([[_mean(row, scale) for row in line] for line in grid])
    better = "higher" if report.study.direction == "maximize" else "lower"
    caption = f"{budget_line(report)} · mean over seeds (n), frame: the baseline, darker is better"
    with matplotlib.rc_context(style.settings(compact)):
        title = f"{report.study.name}: {report.metric.label}, {better} is better"
        fig = style.figure(min(1.4 + 0.55 * lines, 9.0), title, caption, compact)
        ax = fig.add_subplot()
        shades = SHADES if report.study.direction == "maximize" else SHADES.reversed()
        image = ax.imshow(means, cmap=shades, aspect="auto", interpolation="nearest")
        bar = fig.colorbar(image, ax=ax, pad=0.02, label=report.metric.label)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        if lines * count <= WRITTEN:
            _write(ax, report, grid, means)
        _name(ax, report)
    return fig


def _write(ax: Axes, report: Report, grid: list[list[Row | None]], means: Array) -> None:
    """Write mean and n into each cell, or why there is no mean."""
    metric = report.metric
    low, high = np.nanmin(means), np.nanmax(means)
    size = 9 if len(grid[0]) <= 7 else 7
    for y, line in enumerate(grid):
        for x, row in enumerate(line):
            if row is None:
                continue
            planned = len(report.study.seeds)
            mean, n = metric.text(row.score.mean), row.score.n
            missing = "" if n == planned else f" of {planned}"
            text = f"{mean}\n({n}{missing})" if row.ranked else absence(row)
            depth = (means[y, x] - low) / (high - low) if row.ranked and high > low else 0.0
            deep = depth if report.study.direction == "maximize" else 1 - depth
            colour = "#ffffff" if row.ranked and deep > 0.5 else style.INK
            look: dict[str, Any] = {"color": colour} if row.ranked else style.ALERT
            ax.text(
                x, y, text, ha="center", va="center", linespacing=1.1, **{**look, "fontsize": size}
            )


def _name(ax: Axes, report: Report) -> None:
    down, across = report.axes
    for set_ticks, axis in ((ax.set_xticks, across), (ax.set_yticks, down)):
        every = -(-len(axis.cells) // NAMED)
        names = [str(label) for label, _ in axis.cells]
        set_ticks(range(0, len(names), every), names[::every])
    ax.set_xlabel(across.name)
    ax.set_ylabel(down.name)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    places = [
        [label for label, _ in axis.cells].index(report.study.baseline[axis.name])
        for axis in (across, down)
    ]
    frame = Rectangle((places[0] - 0.5, places[1] - 0.5), 1, 1, fill=False, clip_on=False)
    frame.set(edgecolor=style.CATEGORIES[1], linewidth=2, zorder=5)
    ax.add_patch(frame)


def _mean(row: Row | None, scale: float) -> float:
    return scale * row.score.mean if row and row.ranked else math.nan


def absence(row: Row) -> str:
    """Why a row has no mean to draw."""
    if row.failed:
        return f"{len(row.failed)} failed"
    return f"{len(row.errors)} in error" if row.errors else "no run"
