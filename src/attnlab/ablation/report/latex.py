"""The table of results for a paper: LaTeX with the rules of booktabs."""

import re
from collections.abc import Sequence

from attnlab.ablation.report import columns, document, statement
from attnlab.ablation.report.rows import Report, Row

MINUS = "\N{MINUS SIGN}"
ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "—": "---",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "κ": r"$\kappa$",
    MINUS: "$-$",
}


def table(report: Report) -> str:
    r"""Return a table environment that compiles after ``\usepackage{booktabs}``.

    The caption states the question, the budget, n and what the columns are; numbers that are signed
    are set with a true minus.
    """
    rows = document.selected(report, document.LIMIT)
    shown = [*columns.axis_columns(report), *columns.result_columns(report)]
    made = document.table(report, rows, [*shown, *columns.cost_columns()[:2]])
    kinds = "".join("r" if is_number else "l" for is_number in made.is_number)
    lines = [
        r"% \usepackage{booktabs} in the preamble; \input{results.tex} where the table belongs",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(report, rows)}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9:-]', '-', report.study.name)}}}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        *_headings(made.headings),
        r"\midrule",
    ]
    for index, line in enumerate(made.lines):
        texts = [escape(text) for text in line]
        bold = [rf"\textbf{{{text}}}" for text in texts] if index == made.best else texts
        lines.append(f"{' & '.join(bold)} \\\\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escape(plain: str) -> str:
    """Return text that LaTeX sets as it is; a sign before a number becomes a true one."""
    signed = re.sub(r"(?<![\w.)])-(?=\d)", MINUS, plain)
    return "".join(ESCAPES.get(character, character) for character in signed)


def _headings(headings: Sequence[str]) -> list[str]:
    """Return the lines of headings, those of one line at the bottom."""
    parts = [heading.split("\n") for heading in headings]
    depth = max(map(len, parts))
    padded = [[""] * (depth - len(part)) + part for part in parts]
    return [f"{' & '.join(escape(part[level]) for part in padded)} \\\\" for level in range(depth)]


def _caption(report: Report, rows: Sequence[Row]) -> str:
    """Return what a reader of the table alone must know."""
    seeds = len(report.study.seeds)
    planned, found = len(report.rows) * seeds, len(report.runs)
    missing = "" if found == planned else f"; {planned - found} of {planned} runs are missing"
    selection = document.selection_note(report, rows)
    parts = (
        report.study.question,
        f"Mean ± std over {seeds} seeds (n){missing}; difference from the baseline paired by seed, "
        "with a 95 % bootstrap interval and Student's half width; p-values of paired t-tests after "
        f"Holm's correction. Bold: the best mean. {selection}".strip(),
        statement.LISA_NOTE,
    )
    return escape(" ".join(parts))
