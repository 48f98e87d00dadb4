"""Several studies on one page: what each answers at a glance, then each in full."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnlab.ablation.report import document, glance, markdown, statement, webpage
from attnlab.ablation.report.compose import Written

HEADINGS = ("study", "question", "runs", "best cell", "best mean", "differ", "told apart")


def write(
    written: Sequence[Written], absent: Mapping[str, str], out_dir: Path, profile: str
) -> list[Path]:
    """Write ``<profile>.html``, complete in itself, and ``<profile>.md``, which links the reports.

    Args:
        written: The studies that have a report.
        absent: Why others have none, by name.
        out_dir: Directory to write to; created if missing.
        profile: Name of the profile that all were run in.

    Returns:
        The files.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    title = f"{len(written)} stud{'ies' if len(written) > 1 else 'y'}, profile {profile}"
    opening = document.Section("", _blocks(written, absent))
    page = "\n".join(
        [
            f'<article><p class="name">ablations</p>\n<h1>{html.escape(title)}</h1>',
            _contents(written),
            "<section>",
            *(webpage.block(block, "overview", {}) for block in opening.blocks),
            "</section>",
            "</article>",
            *(each.article(level=2) for each in written),
        ]
    )
    links = "\n".join(
        f"- [{each.report.study.name}](../{each.out_dir.relative_to(out_dir.parent)}/report.md)"
        for each in written
    )
    files = {
        f"{profile}.html": webpage.page(title, page),
        f"{profile}.md": f"{markdown.page(title, [opening])}\n{links}\n",
    }
    for name, text in files.items():
        (out_dir / name).write_text(text, encoding="utf-8")
    return [out_dir / name for name in files]


def show(written: Sequence[Written], absent: Mapping[str, str], console: Console) -> None:
    """Print a line per study, those without results too."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for heading in (HEADINGS[0], *HEADINGS[2:]):
        grid.add_column(heading, overflow="fold")
    for each in written:
        name, _, *values = _line(each)
        grid.add_row(*map(Text, (name, *values)))
    console.print(grid)
    for name, reason in absent.items():
        console.print(Text(f"{name}: {reason}", style="dim"))
    console.print(Text(statement.LISA_NOTE, style="dim"))


def _blocks(written: Sequence[Written], absent: Mapping[str, str]) -> list[document.Block]:
    lines = [_line(each) for each in written]
    numbers = [heading in ("runs", "best mean", "differ") for heading in HEADINGS]
    gaps = [
        document.Text(f"{each.report.study.name}: {line}", "alert")
        for each in written
        for line in statement.gaps(each.report)
    ]
    without = [document.Text(f"{name}: {reason}", "small") for name, reason in absent.items()]
    return [
        document.Table(HEADINGS, numbers, lines),
        *gaps,
        *without,
        document.Text(statement.LISA_NOTE, "small"),
    ]


def _line(each: Written) -> list[str]:
    report = each.report
    return [
        report.study.name,
        report.study.question,
        glance.runs(report),
        report.best.cell.name if report.best else "—",
        glance.best(report),
        glance.differing(report),
        glance.told_apart(report),
    ]


def _contents(written: Sequence[Written]) -> str:
    links = (
        f'<a href="#{html.escape(name, quote=True)}">{html.escape(name)}</a>'
        for name in (each.report.study.name for each in written)
    )
    return f"<nav>{' '.join(links)}</nav>"
