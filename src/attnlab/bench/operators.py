"""``attnlab.bench operators``: QnA and its peers, against window and map size."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.ablation.errors import UserError
from attnlab.ablation.report import style
from attnlab.bench import options as common
from attnlab.bench.measure import Limits, Row, measure
from attnlab.bench.plots import window_figure
from attnlab.bench.record import conditions, csv_text
from attnlab.bench.subjects import SUBJECTS, UNIT, Cell, Setting, Subject, chosen
from attnlab.bench.tables import csv_lines, page, timing_entry
from attnlab.files import write_atomically


@dataclass(frozen=True)
class Effort:
    """What is measured unless an option says otherwise."""

    windows: tuple[int, ...]
    maps: tuple[int, ...]
    rounds: int
    budget: float
    max_seconds: float


FULL = Effort((3, 5, 7, 9, 13, 17, 21), (14, 28, 56, 112), 15, 3.0, 10.0)
QUICK = Effort((3, 7, 13), (28, 56), 7, 1.0, 2.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    common.add_common(parser, batch=4, out="runs/bench/operators")
    parser.add_argument("--dim", type=int, default=64, help="channels; default: 64")
    parser.add_argument("--windows", type=int, nargs="+", help="odd window sizes")
    parser.add_argument("--maps", type=int, nargs="+", help="rows and columns of tokens")
    common.add_contest(parser, UNIT, gib=6)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Measure, cell by cell, and write CSV, page and pictures."""
    effort, setting, subjects = (
        _effort(options),
        _setting(options),
        chosen(options.only, SUBJECTS, UNIT),
    )
    common.use_threads(options.threads)
    header = conditions(arguments)
    header["Setting"] = (
        f"batch {setting.batch}, {setting.dim} channels, {options.dtype}, up to {effort.rounds} "
        f"rounds, at least 3, {effort.budget:g} s per subject"
    )
    limits = Limits(effort.max_seconds, options.max_gib * 2**30)
    out: Path = options.out
    rows: list[Row] = []
    for cell in (Cell(side, window) for side in effort.maps for window in effort.windows):
        found = measure(setting, cell, subjects, limits, effort.rounds, effort.budget)
        rows += found
        print(_line(cell, found), flush=True)
        # Whole after every cell: an interrupted benchmark keeps what it has measured.
        write_atomically(out / "operators.csv", csv_text(header, csv_lines(rows, setting)))
    _write(out, header, rows, subjects, setting)
    return 0


def _write(
    out: Path,
    header: dict[str, str],
    rows: Sequence[Row],
    subjects: Sequence[Subject],
    setting: Setting,
) -> None:
    caption = f"{header['Hardware']}, {header['Threads']} threads · {header['Versions']}"
    pictures = {}
    for side in dict.fromkeys(row.cell.side for row in rows):
        here = [row for row in rows if row.cell.side == side]
        style.save(window_figure(here, subjects, setting, caption), out, f"operators_{side}")
        pictures[side] = f"operators_{side}.png"
    title = "Local attention: time and memory against the window"
    text = page(title, header, rows, subjects, setting, pictures)
    write_atomically(out / "operators.md", text)
    print(f"{out}: operators.md, operators.csv, {', '.join(pictures.values())}")


def _effort(options: argparse.Namespace) -> Effort:
    """Return the defaults with what the options change."""
    base = QUICK if options.quick else FULL
    effort = Effort(
        windows=tuple(options.windows or base.windows),
        maps=tuple(options.maps or base.maps),
        rounds=base.rounds if options.rounds is None else options.rounds,
        budget=base.budget if options.budget is None else options.budget,
        max_seconds=base.max_seconds if options.max_seconds is None else options.max_seconds,
    )
    for window in effort.windows:
        if window < 1 or window % 2 == 0:
            raise UserError(f"--windows must be odd and at least 1, not {window}")
    for side in effort.maps:
        common.at_least("maps", side, 1)
    common.at_least("rounds", effort.rounds, 1)
    return effort


def _setting(options: argparse.Namespace) -> Setting:
    common.at_least("batch", options.batch, 1)
    dim = options.dim
    if dim < 8 or dim % 8 or (dim > 32 and dim % 32):
        raise UserError(f"--dim must be 8, 16, 24 or a multiple of 32, not {dim}")
    dtype = common.DTYPES[options.dtype]
    return Setting(options.batch, dim, dtype, common.device(options.device))


def _line(cell: Cell, rows: Sequence[Row]) -> str:
    entries = (f"{row.subject} {timing_entry(row, 'training', row.training)}" for row in rows)
    return f"{cell.side} x {cell.side}, window {cell.window}: {'; '.join(entries)}"
