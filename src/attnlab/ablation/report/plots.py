"""The plot of a study: the metric against the ablated value, over all runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlab.ablation.report import style
from attnlab.ablation.report.conditions import budget_line
from attnlab.ablation.report.heatmap import absence
from attnlab.ablation.report.rows import Report, Row
from attnlab.ablation.report.stats import summarise
from attnlab.ablation.schema import Axis, Label

NUMBERS, NAMES, SHADES = 60, 40, 9
"""Most values of a numeric axis, of one of names, and of one shown as colours."""
TICKS = 16
"""Most values of a numeric axis that are all named."""


@dataclass(frozen=True)
class Series:
    """What one colour draws: at most one row per position of the ablated value."""

    label: str
    colour: str
    marker: str
    shift: float
    rows: Sequence[Row | None]


def metric_figure(report: Report, compact: bool = False) -> Figure | None:
    """Draw mean ± std over seeds with the single runs as dots, for one or two axes.

    Numbers stand on the horizontal axis in even steps (0, 1, 2, 4, 8 are as far apart as they
    are in the grid) and are joined by a line; names stand below each other, unjoined. A second
    axis becomes colours. A cell without a valid mean interrupts the line and says why.

    Returns:
        None for more than two axes, or more cells than one picture shows, or without any run.
    """
    if len(report.axes) > 2 or not report.runs:
        return None
    position, colour = _roles(report)
    count = len(position.cells)
    if count > (NUMBERS if position.numeric else NAMES) or (colour and len(colour.cells) > SHADES):
        return None
    series = _series(report, position, colour)
    lanes = max(count, 0.55 * count * len(series))
    height = 4.6 if position.numeric else 1.5 + 0.5 * lanes
    caption = f"{budget_line(report)} · mean ± std, dots: single runs"
    with matplotlib.rc_context(style.settings(compact)):
        fig = style.figure(height, report.study.question, caption, compact)
        ax = fig.add_subplot()
        if position.numeric:
            _draw_numbers(ax, report, position, series)
        else:
            alone = len(series) == 1 and not compact  # the space beside the axes is free
            _draw_names(ax, report, position, series, scores=alone)
        if colour is not None and compact:
            style.legend_below(fig, ax, colour.name)
        elif colour is not None:
            style.legend(ax, colour.name)
    return fig


def _roles(report: Report) -> tuple[Axis, Axis | None]:
    """The axis whose values are positions, and the one whose values are colours."""
    if len(report.axes) == 1:
        return report.axes[0], None
    first, second = report.axes
    return (second, first) if second.numeric and not first.numeric else (first, second)


def _series(report: Report, position: Axis, colour: Axis | None) -> list[Series]:
    rows = {tuple(row.cell.labels[axis.name] for axis in report.axes): row for row in report.rows}

    def row(place: Label, shade: Label) -> Row | None:
        labels = {position.name: place} | ({colour.name: shade} if colour else {})
        return rows.get(tuple(labels[axis.name] for axis in report.axes))

    shades: list[Label] = [label for label, _ in colour.cells] if colour else [""]
    names = _names(report, colour, " ") if colour else [""]
    palette = style.colours(colour) if colour else style.CATEGORIES
    width = 0.3 if position.numeric else 0.6
    shifts = style.spread(len(shades), 0.09 if position.numeric else 0.3, width)
    return [
        Series(
            label=names[index],
            colour=palette[index],
            marker=style.MARKERS[index % len(style.MARKERS)],
            shift=shifts[index],
            rows=[row(place, shade) for place, _ in position.cells],
        )
        for index, shade in enumerate(shades)
    ]


def _draw_numbers(ax: Axes, report: Report, axis: Axis, series: Sequence[Series]) -> None:
    scale = report.metric.scale
    for one in series:
        x = [index + one.shift for index in range(len(axis.cells))]
        means, stds = _means(one, scale)
        ax.errorbar(x, means, yerr=stds, **_look(one), linewidth=1.8, label=one.label)
        for at, row in zip(x, one.rows, strict=True):
            values = _values(row, scale)
            near, step = (0.13, 0.04) if len(series) == 1 else (0.05, 0.0)
            dots = [at + near + shift for shift in style.spread(len(values), step, 0.12)]
            ax.scatter(dots, values, s=16, color=one.colour, alpha=0.55, linewidth=0, zorder=3)
            if absence := _absence(row):
                foot = ax.text(at, 0.02, absence, transform=ax.get_xaxis_transform(), ha="center")
                foot.set(rotation=90, va="bottom", **style.ALERT)
    every = -(-len(axis.cells) // TICKS)
    ax.set_xticks(range(0, len(axis.cells), every), _names(report, axis, "\n")[::every])
    ax.set_xlim(-0.5, len(axis.cells) - 0.5)
    ax.set_xlabel(axis.name)
    ax.set_ylabel(report.metric.label)
    style.bare(ax, "y")
    if (level := _baseline(report)) is not None:
        ax.axhline(level, **style.REFERENCE)


def _draw_names(
    ax: Axes, report: Report, axis: Axis, series: Sequence[Series], scores: bool
) -> None:
    metric = report.metric
    for one in series:
        y = [index + one.shift for index in range(len(axis.cells))]
        means, stds = _means(one, metric.scale)
        ax.errorbar(means, y, xerr=stds, **_look(one), linestyle="none", label=one.label)
        for at, row in zip(y, one.rows, strict=True):
            values = _values(row, metric.scale)
            dots = [at + 0.13] * len(values)
            ax.scatter(values, dots, s=16, color=one.colour, alpha=0.55, linewidth=0, zorder=3)
            absence = _absence(row)
            if scores and row and not absence:
                score = metric.score(row.score)
                ax.text(1.02, at, score, transform=ax.get_yaxis_transform(), va="center", size=9)
            elif absence:
                foot = ax.text(
                    1.02 if scores else 0.01, at, absence, transform=ax.get_yaxis_transform()
                )
                foot.set(va="center", **style.ALERT)
    ax.set_yticks(range(len(axis.cells)), _names(report, axis, " "))
    ax.set_ylim(len(axis.cells) - 0.5, -0.5)
    ax.set_xlabel(metric.label)
    ax.set_ylabel("")
    style.bare(ax, "x")
    if (level := _baseline(report)) is not None:
        ax.axvline(level, **style.REFERENCE)


def _names(report: Report, axis: Axis, between: str) -> list[str]:
    """The values of an axis, the baseline's marked as such."""
    marked = report.study.baseline[axis.name]
    marks = ["(baseline)" if label == marked else "" for label, _ in axis.cells]
    names = [str(label) for label, _ in axis.cells]
    return [f"{name}{between}{mark}".strip(" ") for name, mark in zip(names, marks, strict=True)]


def _look(one: Series) -> dict[str, Any]:
    return {
        "color": one.colour,
        "marker": one.marker,
        "markersize": 6,
        "capsize": 3,
        "elinewidth": 1.4,
        "zorder": 4,
    }


def _means(one: Series, scale: float) -> tuple[list[float], list[float]]:
    """Mean and std of the valid rows; NaN, which is not drawn, elsewhere."""
    valid = [row.score if row and row.ranked else summarise([]) for row in one.rows]
    return [scale * score.mean for score in valid], [scale * score.std for score in valid]


def _values(row: Row | None, scale: float) -> list[float]:
    return [scale * value for value in row.values.values()] if row else []


def _absence(row: Row | None) -> str:
    """Why a row has no mean to draw; empty if it has one."""
    return "" if row is None or row.ranked else absence(row)


def _baseline(report: Report) -> float | None:
    row = report.baseline
    return row.score.mean * report.metric.scale if row and row.ranked else None
