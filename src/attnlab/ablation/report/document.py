"""The report as a document: sections of blocks, which every page format renders in its own way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from attnlab.ablation.report import columns, conditions, footnotes, pareto, statement
from attnlab.ablation.report.columns import Column
from attnlab.ablation.report.rows import Report, Row

LIMIT = 200
"""Most cells that the tables of a page show; the CSV files hold all."""


@dataclass(frozen=True)
class Text:
    """A paragraph: plain, or the question, the verdict, or something the reader must not miss."""

    text: str
    kind: Literal["plain", "question", "verdict", "alert", "small"] = "plain"


@dataclass(frozen=True)
class Table:
    """A table; its columns of numbers are set right, line `best` stands out."""

    headings: Sequence[str]
    is_number: Sequence[bool]
    lines: Sequence[Sequence[str]]
    best: int | None = None


@dataclass(frozen=True)
class Picture:
    """A figure that was drawn, by the stem of its files, and what it shows."""

    stem: str
    title: str


@dataclass(frozen=True)
class Facts:
    """Named facts."""

    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Notes:
    """Numbered notes."""

    notes: Sequence[str]


Block = Text | Table | Picture | Facts | Notes


@dataclass(frozen=True)
class Section:
    """A heading, empty for the opening, and what stands below it.

    Attributes:
        is_detail: Whether a reader in a hurry may do without it.
    """

    title: str
    blocks: Sequence[Block]
    is_detail: bool = False


PICTURES = {
    "plot": "{metric} of every cell: mean ± std over seeds, dots are single runs",
    "heatmap": "{metric} of every cell: mean, and the number of runs",
    "pareto": "{metric} against cost; joined: cells that none beats at its cost",
    "curves": "learning curves: mean over seeds, band ± std",
}
"""The figures a report may have, in their order, and what each shows."""


def sections(report: Report, pictures: Sequence[str]) -> list[Section]:
    """Return the whole report; `pictures` names the stems of the figures that were drawn."""
    axes, found = columns.axis_columns(report), columns.result_columns(report)
    extra = columns.extra_columns(report)
    rows = selected(report, LIMIT)
    opening: list[Block] = [
        Text(report.study.question, "question"),
        Text(statement.verdict(report), "verdict"),
        Text(statement.differences(report)),
        *(Text(line, "alert") for line in statement.gaps(report)),
    ]
    curves: list[Block] = [Text(statement.curves_note("curves" in pictures))]
    note = Text(statement.LISA_NOTE, "small")  # where the results are, never folded away
    made = [
        Section("", [*opening, *_pictures(report, pictures, "plot", "heatmap")]),
        Section("Results", [*_table(report, rows, [*axes, *found]), note]),
        Section("Further metrics", _table(report, rows, [*axes, *found[:1], *extra]) * bool(extra)),
        Section("Cost", _cost(report, rows, pictures)),
        Section("Learning curves", [*curves, *_pictures(report, pictures, "curves")]),
        Section("Conditions", [Facts(conditions.conditions(report))]),
        Section("Time", _table(report, rows, [*axes, *columns.time_columns()]), is_detail=True),
        Section(
            "How the numbers were computed",
            [Notes(footnotes.footnotes(report))],
            is_detail=True,
        ),
    ]
    return [section for section in made if section.blocks]


def selected(report: Report, limit: int) -> Sequence[Row]:
    """Return all rows in the order of the grid or, of more than `limit`, the best and baseline."""
    if len(report.rows) <= limit:
        return report.rows
    last = len(report.rows) + 1
    by_place = sorted(report.rows, key=lambda row: (not row.is_baseline, row.place or last))
    return sorted(by_place[:limit], key=lambda row: row.place or last)


def selection_note(report: Report, shown: Sequence[Row]) -> str:
    """Say which rows were selected; empty where all are shown."""
    if len(shown) == len(report.rows):
        return ""
    return (
        f"The {len(shown):,} best of {len(report.rows):,} cells and the baseline, in the order of "
        "their means; summary.csv holds all."
    )


def table(report: Report, rows: Sequence[Row], shown: Sequence[Column]) -> Table:
    """Return a table with a line per row."""
    places = [index for index, row in enumerate(rows) if row is report.best]
    return Table(
        headings=[column.heading for column in shown],
        is_number=[column.is_number for column in shown],
        lines=[[column.text(row) for column in shown] for row in rows],
        best=places[0] if places else None,
    )


def _table(report: Report, rows: Sequence[Row], shown: Sequence[Column]) -> list[Block]:
    best = "Bold: the best mean." if report.best else ""
    note = " ".join(part for part in (best, selection_note(report, rows)) if part)
    return [table(report, rows, shown), *([Text(note, "small")] if note else [])]


def _cost(report: Report, rows: Sequence[Row], pictures: Sequence[str]) -> list[Block]:
    axes, score = columns.axis_columns(report), columns.result_columns(report)[:1]
    front = pareto.front_column(report)
    shown = [*axes, *score, *columns.cost_columns(), front]
    return [*_pictures(report, pictures, "pareto"), *_table(report, rows, shown)]


def _pictures(report: Report, drawn: Sequence[str], *stems: str) -> list[Block]:
    return [
        Picture(stem, PICTURES[stem].format(metric=report.metric.label))
        for stem in stems
        if stem in drawn
    ]
