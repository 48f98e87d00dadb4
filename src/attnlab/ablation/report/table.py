"""The report in a terminal."""

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from attnlab.ablation.report import columns, conditions, document, statement
from attnlab.ablation.report.columns import Column
from attnlab.ablation.report.rows import Report, Row

LIMIT = 50
"""Most cells shown."""
GAP = 2
"""Blanks between columns."""


def show(report: Report, console: Console) -> None:
    """Print verdict, tables and conditions; a narrow terminal gets them in parts."""
    console.print()
    console.print(Text(f"{report.study.name}: {report.study.question}", style="bold"))
    rows = document.selected(report, LIMIT)
    if note := document.selection_note(report, rows):
        console.print(Text(note, style="dim"))
    kinds = [
        columns.result_columns(report),
        columns.extra_columns(report),
        [*columns.cost_columns(), *columns.time_columns()],
    ]
    whole = [column for kind in kinds for column in kind]
    room = console.width + GAP - _width(rows, columns.axis_columns(report))
    parts = [part for kind in kinds for part in _groups(rows, kind, room)]
    for part in [whole] if _width(rows, whole) <= room else parts:
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
    grid = Table(box=None, padding=(0, GAP, 0, 0), header_style="bold", pad_edge=False)
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


def _width(rows: Sequence[Row], shown: Sequence[Column]) -> int:
    """Characters that columns take, with the space between them."""
    width = 0
    for column in shown:
        texts = [column.text(row) for row in rows]
        heading = _folded(column.heading, texts).split("\n")
        width += max(map(cell_len, (*texts, *heading))) + GAP
    return width


def _groups(rows: Sequence[Row], shown: Sequence[Column], room: int) -> list[list[Column]]:
    """Columns in as few groups as each fits into `room`, in their order."""
    groups: list[list[Column]] = []
    left = 0
    for column in shown:
        width = _width(rows, [column])
        if groups and width <= left:
            groups[-1].append(column)
        else:
            groups.append([column])
            left = room
        left -= width
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
