"""Writing a whole report: terminal, Markdown, CSV, LaTeX, HTML and pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from attnlab.ablation.report import (
    curves,
    document,
    export,
    glance,
    heatmap,
    latex,
    markdown,
    pareto,
    plots,
    style,
    table,
    webpage,
)
from attnlab.ablation.report.rows import Report

FIGURES: dict[str, Callable[[Report, bool], Figure | None]] = {
    "plot": plots.metric_figure,
    "heatmap": heatmap.heatmap_figure,
    "pareto": pareto.pareto_figure,
    "curves": curves.curves_figure,
}
"""Every figure by its stem; each takes whether it shall be compact, for the HTML page."""
LINKS = """
Every run: [results.csv](results.csv). Every cell: [summary.csv](summary.csv).
For a paper: [results.tex](results.tex). On any screen: [report.html](report.html).
"""


@dataclass(frozen=True)
class Written:
    """A report that was written, and what a page over several of them needs of it."""

    report: Report
    out_dir: Path
    sections: Sequence[document.Section]
    drawings: webpage.Drawings

    def article(self, level: int = 1) -> str:
        """Return the study as a part of a page, its heading of this level."""
        tiles = glance.tiles(self.report)
        return webpage.study(self.report.study.name, tiles, self.sections, self.drawings, level)


def write_report(report: Report, out_dir: Path, console: Console | None = None) -> Written:
    """Write every file of a report to `out_dir`, and print it to `console` if one is given.

    What was drawn before and is no longer part of the report is removed.
    """
    if console is not None:
        table.show(report, console)  # first: it needs no room on the disk
    out_dir.mkdir(parents=True, exist_ok=True)
    drawings = {}
    for stem, draw in FIGURES.items():
        figure, compact = draw(report, False), draw(report, True)
        if figure is None or compact is None:
            for ending in ("png", "svg"):
                (out_dir / f"{stem}.{ending}").unlink(missing_ok=True)
            continue
        style.save(figure, out_dir, stem)
        drawings[stem] = style.svg(compact)
    export.write_results(report, out_dir / "results.csv")
    export.write_summary(report, out_dir / "summary.csv")
    name = report.study.name
    sections = document.sections(report, tuple(drawings))
    written = Written(report, out_dir, sections, drawings)
    _write(out_dir / "report.md", markdown.page(name, sections) + LINKS)
    _write(out_dir / "results.tex", latex.table(report))
    _write(
        out_dir / "report.html", webpage.page(f"{name}: {report.study.question}", written.article())
    )
    if console is not None:
        console.print(Text(f"Report: {out_dir / 'report.html'}, report.md"), soft_wrap=True)
    return written


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
