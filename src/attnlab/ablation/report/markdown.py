"""The report as a Markdown page, as GitHub renders it."""

import re
from collections.abc import Sequence

from attnlab.ablation.report.document import (
    Block,
    Facts,
    Notes,
    Picture,
    Section,
    Table,
    Text,
)


def page(title: str, sections: Sequence[Section]) -> str:
    """Render a whole document; its pictures lie beside it as ``<stem>.png``."""
    return f"# {title}\n\n{body(sections, 2)}\n"


def body(sections: Sequence[Section], level: int) -> str:
    """Render sections whose headings have this level."""
    blocks = []
    for section in sections:
        blocks += [f"{'#' * level} {_text(section.title)}"] * bool(section.title)
        blocks += [_block(block) for block in section.blocks]
    return "\n\n".join(block for block in blocks if block)


def _block(block: Block) -> str:
    match block:
        case Text(text, kind):
            marks = {"question": "**{}**", "alert": "**{}**", "verdict": "> {}"}
            return marks.get(kind, "{}").format(_text(text)) if text else ""
        case Table():
            return _table(block)
        case Picture(stem, title):
            return f"![{_text(title)}]({stem}.png)"
        case Facts(facts):
            return "\n".join(f"- **{name}**: {_text(fact)}" for name, fact in facts)
        case Notes(notes):
            return "\n".join(f"{number}. {_text(note)}" for number, note in enumerate(notes, 1))


def _table(table: Table) -> str:
    lines = [
        [_text(heading) for heading in table.headings],
        ["---:" if is_number else ":---" for is_number in table.is_number],
    ]
    for index, line in enumerate(table.lines):
        texts = [_text(text) for text in line]
        lines.append([f"**{text}**" for text in texts] if index == table.best else texts)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(plain: str) -> str:
    """Plain text with what Markdown would read as marks escaped (not an underscore in a word)."""
    return re.sub(r"[\\|*`<]|\b_|_\b", r"\\\g<0>", plain).replace("\n", " ")
