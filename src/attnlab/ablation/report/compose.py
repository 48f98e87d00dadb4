"""Writing a whole report: terminal, Markdown, CSV and pictures."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from attnlab.ablation.cells import Cell, Result
from attnlab.ablation.report import curves, export, markdown, plots, rows, style, table
from attnlab.ablation.schema import Profile, Study


def write_report(
    study: Study,
    profile: Profile,
    cells: Sequence[Cell],
    results: Sequence[Result],
    out_dir: Path,
    console: Console | None = None,
) -> None:
    """Do what `attnlab.ablation.report.write` promises, printing to `console` if one is given."""
    report = rows.build(study, profile, cells, results)
    console = console or Console()
    table.show(report, console)  # first: it needs no room on the disk
    out_dir.mkdir(parents=True, exist_ok=True)
    figures = {"plot": plots.metric_figure(report), "curves": curves.curves_figure(report)}
    drawn = {stem: figure for stem, figure in figures.items() if figure is not None}
    for stem, figure in drawn.items():
        style.save(figure, out_dir, stem)
    export.write_results(report, out_dir / "results.csv")
    export.write_summary(report, out_dir / "summary.csv")
    page = markdown.page(report, tuple(drawn))
    (out_dir / "report.md").write_text(page, encoding="utf-8")
    console.print(Text(f"Report: {out_dir / 'report.md'}"), soft_wrap=True)
