"""The look of every figure: colours safe for the colour-blind, sizes legible at 800 pixels."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from attnlab.ablation.schema import Axis

DPI = 200  # twice the 100 at which the sizes below were chosen: 8 inches become 1600 pixels
WIDTH = 8.0
COMPACT = 4.6
"""Inches: on a phone, 360 pixels wide, text then has about its size in points as pixels."""
INK, GREY, FAINT = "#222222", "#6b6b6b", "#e4e4e4"
ALERT: Any = {"color": "#B22222", "fontsize": 9}
# Okabe and Ito (2008), ordered by contrast on white, without the yellow that fails there
CATEGORIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # one more than colours: pairs do not repeat
REFERENCE: Any = {"color": GREY, "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 1}
SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same picture everywhere
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # labels are data, not TeX
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "legend.frameon": False,
    "svg.hashsalt": "attnlab",  # the same study gives the same bytes
}


def settings(compact: bool = False) -> Any:
    """The settings of a figure; a compact one leaves its text to be set as text by a browser."""
    return SETTINGS | (
        {"svg.fonttype": "none", "font.size": 10, "axes.labelsize": 10} if compact else {}
    )


def figure(height: float, title: str, caption: str, compact: bool = False) -> Figure:
    """An empty figure, `height` inches tall, with a title above and a caption below.

    A compact one is as narrow as a phone and has neither: the page around it says both.
    """
    if compact:
        fig = Figure(figsize=(COMPACT, height), layout=ConstrainedLayoutEngine())
        FigureCanvasAgg(fig)
        return fig
    lines = textwrap.wrap(title, 78)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)  # inches
    fig = Figure(figsize=(WIDTH, height + 0.22 * len(lines)), layout=layout)
    FigureCanvasAgg(fig)
    fig.suptitle("\n".join(lines), x=0.015, ha="left", fontsize=12, fontweight="bold")
    fig.supxlabel(caption, x=0.015, ha="left", fontsize=9, color=GREY)
    return fig


def colours(axis: Axis) -> list[str]:
    """One colour per value: a scale from dark to light for numbers, unlike hues for names."""
    count = len(axis.cells)
    if not axis.numeric:
        return [CATEGORIES[index % len(CATEGORIES)] for index in range(count)]
    scale = matplotlib.colormaps["viridis"]
    return [matplotlib.colors.to_hex(scale(0.72 * k / max(count - 1, 1))) for k in range(count)]


def bare(ax: Axes, grid: Literal["x", "y"]) -> None:
    """Leave of an axes what is read: the grid along one direction and its labels."""
    ax.grid(axis=grid, linewidth=0.8)
    ax.tick_params(length=0)
    ax.spines["left" if grid == "y" else "bottom"].set_visible(False)


def legend(ax: Axes, title: str) -> None:
    """Name the colours beside the axes, where they hide nothing."""
    ax.legend(title=title, loc="upper left", bbox_to_anchor=(1, 1), alignment="left")


def legend_below(fig: Figure, ax: Axes, title: str) -> None:
    """Name the colours of `ax` below a compact figure, which is too narrow for more beside it."""
    handles, names = ax.get_legend_handles_labels()
    columns = max(1, min(len(names), 60 // max(4 + max(map(len, names), default=1), 8)))
    fig.legend(handles, names, title=title, loc="outside lower center", ncols=columns, fontsize=9)


def save(fig: Figure, out_dir: Path, stem: str) -> None:
    """Write ``<stem>.png`` and ``<stem>.svg``."""
    save_png(fig, out_dir / f"{stem}.png")
    fig.set_layout_engine("none")  # the layout stands, and takes as long as all the rest
    with matplotlib.rc_context(SETTINGS):
        fig.savefig(out_dir / f"{stem}.svg", metadata={"Date": None})


def svg(fig: Figure) -> str:
    """Return a compact figure as an SVG element without a background."""
    with matplotlib.rc_context(settings(compact=True)):
        stream = io.StringIO()
        fig.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def save_png(fig: Figure, path: Path) -> None:
    """Write a figure as PNG alone."""
    with matplotlib.rc_context(SETTINGS):
        fig.savefig(path, dpi=DPI, metadata={"Software": None})


def spread(count: int, step: float, width: float) -> Sequence[float]:
    """`count` offsets around 0, `step` apart or closer so that all lie within `width`."""
    step = min(step, width / max(count - 1, 1))
    return [step * (index - (count - 1) / 2) for index in range(count)]
