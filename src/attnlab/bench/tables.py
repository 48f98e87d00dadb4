"""The operator benchmark as CSV lines and as a Markdown page."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from attnlab.bench.measure import FORWARD, TRAINING, Row, Timing
from attnlab.bench.subjects import UNIT, Setting, Subject
from attnlab.bench.timing import Spread

MIB = 2**20


def csv_lines(rows: Iterable[Row], setting: Setting) -> list[dict[str, object]]:
    """Return a line per row: milliseconds, ratios to QnA, MiB per image; empty where missing."""
    return [
        {
            "map": row.cell.side,
            "window": row.cell.window,
            "subject": row.subject,
            **columns(row, setting.batch),
        }
        for row in rows
    ]


def columns(row: Row, batch: int = 1) -> dict[str, object]:
    """Return what was measured by name: times as they are, memory of one of `batch` images."""
    return {
        **_columns(FORWARD, row.forward),
        **_columns(TRAINING, row.training),
        "saved_mib": _mib(row.saved, batch),
        "forward_peak_mib": _mib(row.forward_peak, batch),
        "training_peak_mib": _mib(row.training_peak, batch),
        "note": "; ".join(f"{mode} {note}" for mode, note in row.notes.items()),
    }


def _columns(mode: str, timing: Timing | None) -> dict[str, object]:
    def three(spread: Spread | None, scale: float) -> list[float | None]:
        if spread is None:
            return [None] * 3
        return [round(scale * x, 5) for x in (spread.median, spread.low, spread.high)]

    ends = ("", "_q1", "_q3")
    times = three(timing.seconds if timing else None, 1e3)
    ratio = three(timing.ratio if timing else None, 1.0)
    return {
        **{f"{mode}_ms{end}": value for end, value in zip(ends, times, strict=True)},
        **{f"{mode}_ratio{end}": value for end, value in zip(ends, ratio, strict=True)},
        f"{mode}_n": timing.seconds.n if timing else None,
    }


def _mib(count: int | None, batch: int) -> float | None:
    return None if count is None else round(count / MIB / batch, 3)


def page(
    title: str,
    header: Mapping[str, str],
    rows: Sequence[Row],
    subjects: Sequence[Subject],
    setting: Setting,
    pictures: Mapping[int, str],
) -> str:
    """Return the page: conditions, legend, and four tables and a picture per map."""
    blocks = [f"# {title}", "\n".join(f"- **{name}**: {value}" for name, value in header.items())]
    blocks += ["\n".join(legend(subject) for subject in subjects), CAPTION]
    for side in dict.fromkeys(row.cell.side for row in rows):
        here = [row for row in rows if row.cell.side == side]
        blocks.append(f"## {side} x {side} tokens")
        if side in pictures:
            blocks.append(f"![time and memory against the window]({pictures[side]})")
        for heading, entry in _measures(setting):
            blocks += [f"**{heading}**", table(here, entry)]
        blocks.append("\n".join(failures(here)))
    return "\n\n".join(block for block in blocks if block) + "\n"


CAPTION = (
    "All subjects ran in one process, one after the other in every round, each round beginning "
    f"with another. Entries are median ± half the interquartile range; in brackets the ratio to "
    f"{UNIT} in the same round, so (2) takes twice as long as {UNIT}. Memory is per image. Saved: "
    "what autograd keeps for the backward, distinct storages without parameters. Peak: the most "
    "that was allocated at a time in forward and backward, without parameters and input."
)


def table(rows: Sequence[Row], entry: Callable[[Row], str]) -> str:
    """Return a table of subjects by windows."""
    windows = list(dict.fromkeys(row.cell.window for row in rows))
    entries = {(row.subject, row.cell.window): entry(row) for row in rows}
    lines = [
        [name, *(entries.get((name, window), "") for window in windows)]
        for name in dict.fromkeys(row.subject for row in rows)
    ]
    return markdown(["window", *map(str, windows)], lines)


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, its first column to the left and the others to the right."""
    rule = [":---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def _measures(setting: Setting) -> list[tuple[str, Callable[[Row], str]]]:
    def memory(row: Row, count: int | None) -> str:
        found = _mib(count, setting.batch)
        return missing(row, TRAINING) if found is None else figures(found)

    return [
        ("Forward, ms", lambda row: timing_entry(row, FORWARD, row.forward)),
        ("Forward + backward, ms", lambda row: timing_entry(row, TRAINING, row.training)),
        ("Saved for the backward, MiB per image", lambda row: memory(row, row.saved)),
        ("Peak, MiB per image", lambda row: memory(row, row.training_peak)),
    ]


def timing_entry(row: Row, mode: str, timing: Timing | None) -> str:
    """Return milliseconds and ratio, each with its spread."""
    if timing is None:
        return missing(row, mode)
    took, ratio = timing.seconds, timing.ratio
    shown = f"{figures(1e3 * took.median)} ± {figures(1e3 * took.half_width, 2)}"
    if ratio is None or row.subject == UNIT:
        return shown
    return f"{shown} ({figures(ratio.median)} ± {figures(ratio.half_width, 2)})"


def figures(value: float, count: int = 3) -> str:
    """Return a number with `count` significant figures, without an exponent."""
    if value == 0:
        return "0"
    text = f"{value:.{count}g}"
    return f"{float(text):.0f}" if "e+" in text else f"{float(text):g}"


def missing(row: Row, mode: str) -> str:
    """Return what a table says in place of a number."""
    note = row.notes.get(mode, "")
    return "fails" if note.startswith("fails") else note


def failures(rows: Iterable[Row]) -> list[str]:
    """Return once per subject and message what failed."""
    said = {
        f"{row.subject}, {mode}: {note}"
        for row in rows
        for mode, note in row.notes.items()
        if note.startswith("fails") and (mode == FORWARD or FORWARD not in row.notes)
    }
    return [f"- {line}" for line in sorted(said)]


def legend(subject: Subject) -> str:
    """Return a line that says what a subject is."""
    limits = f" ({subject.limits})" if subject.limits else ""
    return f"- *{subject.name}*: {subject.about}{limits}"
