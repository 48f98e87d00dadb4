"""The report as a Markdown page, as GitHub renders it."""

import re
from collections.abc import Sequence

from attnlab.ablation.report import columns, statement
from attnlab.ablation.report.columns import Column
from attnlab.ablation.report.rows import Report


def page(report: Report, pictures: Sequence[str]) -> str:
    """The whole page; `pictures` names the stems of the figures that were drawn beside it."""
    axes, found = columns.axis_columns(report), columns.result_columns(report)
    extra = columns.extra_columns(report)
    results = [*axes, *found, *columns.cost_columns()]
    blocks = [
        f"# {report.study.name}",
        f"**{_text(report.study.question)}**",
        f"> {_text(statement.verdict(report))}",
        _text(statement.differences(report)),
        *(f"**{_text(line)}**" for line in statement.gaps(report)),
        _picture(pictures, "plot", f"{report.metric.label} of every cell"),
        "## Results",
        table(report, results),
        "**Bold**: the best mean." if report.best else "",
        "## Further metrics" if extra else "",
        table(report, [*axes, *found[:1], *extra]) if extra else "",
        "## Learning curves",
        _text(statement.curves_note("curves" in pictures)),
        _picture(pictures, "curves", "learning curves"),
        "## Conditions",
        "\n".join(f"- **{name}**: {_text(fact)}" for name, fact in statement.conditions(report)),
        "## Time",
        table(report, [*axes, *columns.time_columns()]),
        "## How the numbers were computed",
        "\n".join(f"{k}. {_text(note)}" for k, note in enumerate(statement.footnotes(report), 1)),
        statement.LISA_NOTE,
        "Every run: [results.csv](results.csv). Every cell: [summary.csv](summary.csv).",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def table(report: Report, shown: Sequence[Column]) -> str:
    """A table with a line per cell in the order of the grid, the best mean in bold."""
    lines = [
        [_text(column.heading) for column in shown],
        ["---:" if column.is_number else ":---" for column in shown],
    ]
    for row in report.rows:
        texts = [_text(column.text(row)) for column in shown]
        lines.append([f"**{text}**" for text in texts] if row is report.best else texts)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _picture(pictures: Sequence[str], stem: str, title: str) -> str:
    if stem not in pictures:
        return ""
    return f"![{_text(title)}]({stem}.png)"


def _text(plain: str) -> str:
    """Plain text with what Markdown would read as marks escaped (not an underscore in a word)."""
    return re.sub(r"[\\|*`<]|\b_|_\b", r"\\\g<0>", plain).replace("\n", " ")
