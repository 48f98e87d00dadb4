"""The picture of the scaling benchmark: time and memory against tokens, on log-log axes."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from attnlab.ablation.report import style
from attnlab.bench.measure import Row
from attnlab.bench.scaling_subjects import RPES, lisa_name
from attnlab.bench.scaling_tables import FIT_SIDES, MEASURES, Value, fit
from attnlab.bench.subjects import Subject
from attnlab.bench.tables import figures

EXACT = tuple(map(lisa_name, ("auto", "fft", "none")))
"""Forms of LiSA that stand for it among its peers: they compute one function."""

SHOWN = ("training_ms", "training_peak_mib")


@dataclass(frozen=True)
class Curve:
    """How one subject is drawn."""

    subject: str
    colour: str
    marker: str
    linestyle: str
    width: float


def peer_curves(subjects: Sequence[Subject]) -> list[Curve]:
    """Return LiSA in its exact forms, thick and of one colour, and a colour per peer's family."""
    names = {subject.name for subject in subjects}
    entries = [("LiSA", name, 2.6) for name in EXACT if name in names]
    peers = [subject for subject in subjects if not subject.family.startswith("LiSA")]
    entries += [(subject.family, subject.name, 1.4) for subject in peers]
    return _curves(["LiSA"], entries)


def form_curves(subjects: Sequence[Subject]) -> list[Curve]:
    """Return all forms of LiSA: a colour per approximation, solid for the R that all have."""
    forms = [subject for subject in subjects if subject.family.startswith("LiSA")]
    usual = lisa_name("fft")
    forms.sort(key=lambda subject: not subject.name.endswith(f"R={RPES}"))  # takes the solid line
    entries = [(form.family, form.name, 2.6 if form.name == usual else 1.4) for form in forms]
    return _curves(["LiSA fft"], entries)


def _curves(first: Sequence[str], entries: Iterable[tuple[str, str, float]]) -> list[Curve]:
    """Return curves of (family, subject, width), with the first colours for certain families."""
    known = list(entries)
    families = list(dict.fromkeys([*first, *(family for family, _, _ in known)]))
    seen: dict[str, int] = {}
    curves = []
    for family, subject, width in known:
        variant = seen[family] = seen.get(family, -1) + 1
        index = families.index(family)
        colour = style.CATEGORIES[index % len(style.CATEGORIES)]
        marker = style.MARKERS[index % len(style.MARKERS)]
        curves.append(Curve(subject, colour, marker, ("-", "--", ":")[variant % 3], width))
    return curves


def scaling_figure(rows: Sequence[Row], subjects: Sequence[Subject], caption: str) -> Figure:
    """Draw forward + backward: above LiSA and its peers, below LiSA's forms; exponents beside."""
    ran = [subject for subject in subjects if _ran(rows, subject.name)]
    curves_of = {"LiSA and its peers": peer_curves(ran), "forms of LiSA": form_curves(ran)}
    groups = {title: curves for title, curves in curves_of.items() if curves}
    caption = "\n".join(textwrap.wrap(caption, 110))
    with matplotlib.rc_context(style.SETTINGS):
        fig = style.figure(4.4 * len(groups), "Cost against the number of tokens", caption)
        grid = fig.add_gridspec(2 * len(groups), 2, height_ratios=[1, 0.3] * len(groups))
        for line, (title, curves) in enumerate(groups.items()):
            axes = [fig.add_subplot(grid[2 * line, column]) for column in (0, 1)]
            for ax, name in zip(axes, SHOWN, strict=True):
                heading, value = MEASURES[name]
                _draw(ax, rows, curves, value)
                ax.set_title(f"{title}\n{heading}", loc="left", fontsize=10)
            _legend(fig.add_subplot(grid[2 * line + 1, :]), axes[0], rows, curves)
    return fig


def _ran(rows: Sequence[Row], subject: str) -> bool:
    return any(row.training for row in rows if row.subject == subject)


def _draw(ax: Axes, rows: Sequence[Row], curves: Sequence[Curve], value: Value) -> None:
    for curve in curves:
        mine = [row for row in rows if row.subject == curve.subject]
        known = [(row.cell.tokens, height) for row in mine if (height := value(row))]
        ax.plot(
            [tokens for tokens, _ in known],
            [height for _, height in known],
            color=curve.colour,
            marker=curve.marker,
            markersize=4,
            linestyle=curve.linestyle,
            linewidth=curve.width,
            zorder=4 if curve.width > 2 else 3,
        )
    tokens = sorted({row.cell.tokens for row in rows})
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(FixedLocator(tokens))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{round(count**0.5)}²"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda height, _: figures(height)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    style.bare(ax, "y")
    ax.tick_params(which="minor", length=0)
    ax.set_xlabel("tokens N")


def _legend(place: Axes, ax: Axes, rows: Sequence[Row], curves: Sequence[Curve]) -> None:
    """Name the curves below their panels, each with its exponents."""
    names = []
    for curve in curves:
        laws = [fit(rows, curve.subject, MEASURES[name][1]) for name in SHOWN]
        known = [f"{law.exponent:.2f}" for law in laws if law]
        names.append(f"{curve.subject} ({', '.join(known)})" if known else curve.subject)
    place.axis("off")
    low, high = FIT_SIDES
    place.legend(
        ax.get_lines(),
        names,
        title=f"in brackets: exponents of N over {low}² to {high}², of time and of memory",
        title_fontsize=8.5,
        loc="center",
        ncols=3,
        fontsize=8.5,
        handlelength=3,
    )
