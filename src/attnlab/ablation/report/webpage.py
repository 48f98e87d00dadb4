"""The report as one HTML page that needs nothing else: no request leaves it."""

import html
import re
from collections.abc import Mapping, Sequence

from attnlab.ablation.report import webstyle
from attnlab.ablation.report.document import (
    Block,
    Facts,
    Notes,
    Picture,
    Section,
    Table,
    Text,
)

Drawings = Mapping[str, str]
"""SVG elements by the stem of their figure."""
BEST, WIDE = ' class="best"', " wide"
LONG = 36
"""Characters of a cell from which on it may break into lines."""


def page(title: str, body: str) -> str:
    """Return a whole page around what `study` or `overview` made."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{webstyle.STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def study(
    name: str,
    tiles: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    drawings: Drawings,
    level: int = 1,
) -> str:
    """Return one study as an article.

    Args:
        name: Of the study, which is also where links to it lead.
        tiles: What is told at a glance, as (number, what it counts).
        sections: The document.
        drawings: Its figures.
        level: Of the heading of the study.
    """
    anchor = html.escape(name, quote=True)
    head = f'<p class="name">{html.escape(name)}</p>'
    parts = [_section(section, name, drawings, tiles, level) for section in sections]
    return f'<article id="{anchor}">\n{head}\n' + "\n".join(parts) + "\n</article>"


def tiles_of(tiles: Sequence[tuple[str, str]]) -> str:
    """Return a row of numbers told at a glance."""
    boxes = "".join(
        f"<div><b>{html.escape(number)}</b><span>{html.escape(what)}</span></div>"
        for number, what in tiles
    )
    return f'<div class="tiles">{boxes}</div>'


def block(one: Block, name: str, drawings: Drawings, level: int = 1) -> str:
    """Return a block of the document called `name`."""
    match one:
        case Text(text, kind):
            tag = f"h{level}" if kind == "question" else "p"
            return f'<{tag} class="{kind}">{html.escape(text)}</{tag}>' if text else ""
        case Table():
            return _table(one)
        case Picture(stem, title):
            return _picture(drawings[stem], f"{name}-{stem}", title)
        case Facts(facts):
            pairs = (f"<dt>{_text(key)}</dt><dd>{_text(fact)}</dd>" for key, fact in facts)
            return f"<dl>{''.join(pairs)}</dl>"
        case Notes(notes):
            return f"<ol>{''.join(f'<li>{_text(note)}</li>' for note in notes)}</ol>"


def _section(
    section: Section,
    name: str,
    drawings: Drawings,
    tiles: Sequence[tuple[str, str]],
    level: int,
) -> str:
    blocks = [block(each, name, drawings, level) for each in section.blocks]
    if not section.title:
        return "\n".join([blocks[0], tiles_of(tiles), *filter(None, blocks[1:])])
    inner = "\n".join(filter(None, blocks))
    title = f"h{level + 1}"
    if section.is_detail:
        return f"<details><summary>{_text(section.title)}</summary>\n{inner}\n</details>"
    return f"<section>\n<{title}>{_text(section.title)}</{title}>\n{inner}\n</section>"


def _table(table: Table) -> str:
    kinds = ["n" if is_number else "t" for is_number in table.is_number]
    head = "".join(
        f'<th scope="col" class="{kind}">{_text(heading)}</th>'
        for kind, heading in zip(kinds, table.headings, strict=True)
    )
    lines = []
    for index, line in enumerate(table.lines):
        cells = "".join(
            f'<td class="{kind}{_mark(text)}{WIDE * (len(text) > LONG)}">{_text(text)}</td>'
            for kind, text in zip(kinds, line, strict=True)
        )
        lines.append(f"<tr{BEST if index == table.best else ''}>{cells}</tr>")
    body = "\n".join(lines)
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _mark(text: str) -> str:
    """The class that lets a text stand out."""
    if text in ("yes", "no", "baseline"):
        return f" {text}"
    return " bad" if text.endswith((" failed", " in error", "no run")) else ""


def _picture(drawing: str, prefix: str, title: str) -> str:
    """Return a figure; the names inside it are made its own, so that others may stand beside it."""
    prefix = re.sub(r"[^\w-]", "-", prefix, flags=re.ASCII)
    bare = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", drawing, flags=re.DOTALL)
    own = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", bare)
    sized = re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", own)
    sized = re.sub(r'^(<svg[^>]*?) height="[^"]*"', r"\1", sized)
    label = html.escape(title, quote=True)
    named = sized.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return f"<figure>{named}<figcaption>{html.escape(title)}</figcaption></figure>"


def _text(plain: str) -> str:
    return html.escape(plain).replace("\n", "<br>")
