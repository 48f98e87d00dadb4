"""The picture of the operator benchmark: time and memory against the window."""

from collections.abc import Callable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from attnlab.ablation.report import style
from attnlab.bench.measure import Row, Timing
from attnlab.bench.subjects import Setting, Subject
from attnlab.bench.tables import MIB

Value = Callable[[Row], float | None]


def window_figure(
    rows: Sequence[Row], subjects: Sequence[Subject], setting: Setting, caption: str
) -> Figure:
    """Draw the four measures of one map; families share a colour, their variants are dashed."""
    side = rows[0].cell.side
    panels: list[tuple[str, Value]] = [
        ("forward, ms", lambda row: _ms(row.forward)),
        ("forward + backward, ms", lambda row: _ms(row.training)),
        ("saved for the backward, MiB per image", lambda row: _mib(row.saved, setting)),
        ("peak of forward + backward, MiB per image", lambda row: _mib(row.training_peak, setting)),
    ]
    title = f"Local attention on {side} x {side} tokens, {setting.dim} channels"
    with matplotlib.rc_context(style.SETTINGS):
        fig = style.figure(8.0, title, caption)
        grid = fig.add_gridspec(3, 2, height_ratios=[1, 1, 0.3])
        for index, (label, value) in enumerate(panels):
            ax = fig.add_subplot(grid[index // 2, index % 2])
            _draw(ax, rows, subjects, value)
            ax.set_title(label, loc="left", fontsize=10)
            if index > 1:
                ax.set_xlabel("window size")
        legend = fig.add_subplot(grid[2, :])
        legend.axis("off")
        handles, names = fig.axes[0].get_legend_handles_labels()
        legend.legend(handles, names, loc="center", ncols=3, fontsize=9)
    return fig


def _draw(ax: Axes, rows: Sequence[Row], subjects: Sequence[Subject], value: Value) -> None:
    families = list(dict.fromkeys(subject.family for subject in subjects))
    variants: dict[str, int] = {}
    windows = sorted({row.cell.window for row in rows})
    for subject in subjects:
        variant = variants[subject.family] = variants.get(subject.family, -1) + 1
        family = families.index(subject.family)
        found = {row.cell.window: value(row) for row in rows if row.subject == subject.name}
        heights = [found.get(window) or float("nan") for window in windows]
        ran = any(row.forward for row in rows if row.subject == subject.name)
        ax.plot(
            windows,
            heights,
            color=style.CATEGORIES[family % len(style.CATEGORIES)],
            marker=style.MARKERS[family % len(style.MARKERS)],
            markersize=4,
            linestyle=("-", "--", ":")[variant % 3],
            linewidth=2.4 if family == 0 else 1.3,
            zorder=4 if family == 0 else 3,
            label=subject.name if ran else None,
        )
    ax.set_yscale("log")
    ax.set_xticks(windows)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda height, _: f"{height:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    style.bare(ax, "y")
    ax.tick_params(which="minor", length=0)


def _ms(timing: Timing | None) -> float | None:
    return None if timing is None else 1e3 * timing.seconds.median


def _mib(count: int | None, setting: Setting) -> float | None:
    return None if count is None else count / MIB / setting.batch
