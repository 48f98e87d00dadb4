"""The report in a terminal."""

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from attnlab.ablation.report import columns, conditions, document, statement
from attnlab.ablation.report.columns import Column
from attnlab.ablation.report.rows import Report, Row

LIMIT = 50
"""Most cells shown."""


def show(report: Report, console: Console) -> None:
    """Print verdict, tables and conditions; a narrow terminal gets them in parts."""
    console.print()
    console.print(Text(f"{report.study.name}: {report.study.question}", style="bold"))
    rows = document.selected(report, LIMIT)
    if note := document.selection_note(report, rows):
        console.print(Text(note, style="dim"))
    shown = [
        *columns.result_columns(report),
        *columns.extra_columns(report),
        *columns.cost_columns(),
        *columns.time_columns(),
    ]
    for part in _groups(report, rows, shown, console):
        console.print(table(report, rows, part))
        console.print()
    found = report.separation
    style = "green" if found and found.separates else "yellow"
    console.print(Text(statement.verdict(report), style=style))
    for line in (statement.differences(report), *statement.gaps(report)):
        if line:
            console.print(Text(line))
    console.print()
    facts = Table.grid(padding=(0, 2))
    for name, fact in conditions.conditions(report):
        facts.add_row(Text(name, style="dim"), Text(fact))
    console.print(facts)
    console.print(Text(statement.LISA_NOTE, style="dim"))


def table(report: Report, rows: Sequence[Row], shown: Sequence[Column]) -> Table:
    """A table of the axes and the columns `shown`, a line per row."""
    axes = columns.axis_columns(report)
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    made = document.table(report, rows, [*axes, *shown])
    for index, column in enumerate((*axes, *shown)):
        grid.add_column(
            escape(_folded(column.heading, [line[index] for line in made.lines])),
            justify="right" if column.is_number else "left",
            vertical="bottom",
            no_wrap=column not in axes,
        )
    for row, line in zip(rows, made.lines, strict=True):
        grid.add_row(*map(Text, line), style=_style(report, row))
    return grid


def _fits(report: Report, rows: Sequence[Row], shown: Sequence[Column], console: Console) -> bool:
    unbounded = console.options.update_width(10_000)
    made = table(report, rows, shown)
    return console.measure(made, options=unbounded).maximum <= console.width


def _groups(
    report: Report, rows: Sequence[Row], shown: Sequence[Column], console: Console
) -> list[list[Column]]:
    """Columns in as few groups as each fits the terminal, in their order."""
    groups: list[list[Column]] = []
    for column in shown:
        if groups and _fits(report, rows, [*groups[-1], column], console):
            groups[-1].append(column)
        else:
            groups.append([column])
    return groups


def _folded(heading: str, texts: Sequence[str]) -> str:
    """A heading in lines about as wide as the texts below it."""
    width = max(12, *map(len, texts))
    lines = heading.split("\n")
    return "\n".join(textwrap.fill(line, width, break_long_words=False) for line in lines)


def _style(report: Report, row: Row) -> str:
    """Bold for the best mean, red for failed cells, dim where nothing has run."""
    if row.failed or row.errors:
        return "red"
    if not row.runs:
        return "dim"
    return "bold" if row is report.best else ""
