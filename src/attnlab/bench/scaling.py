"""``attnlab.bench scaling``: LiSA and mixers that see the whole map, against their tokens."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attnlab.ablation.errors import UserError
from attnlab.ablation.report import style
from attnlab.bench import options as common
from attnlab.bench import scaling_networks as networks
from attnlab.bench import scaling_tables as tables
from attnlab.bench.measure import Limits, Row, Timing, measure
from attnlab.bench.record import conditions, csv_text
from attnlab.bench.scaling_plot import scaling_figure
from attnlab.bench.scaling_subjects import HEAD_DIM, SUBJECTS, UNIT
from attnlab.bench.subjects import Cell, Setting, Subject, chosen
from attnlab.bench.timing import Spread
from attnlab.files import write_atomically


@dataclass(frozen=True)
class Effort:
    """What is measured unless an option says otherwise."""

    grids: tuple[int, ...]
    sizes: tuple[int, ...]
    rounds: int
    budget: float
    max_seconds: float


FULL = Effort((7, 14, 28, 56, 112), (224, 448), 11, 2.0, 10.0)
QUICK = Effort((7, 14, 28), (224,), 3, 0.2, 2.0)
TOKENS, NETWORK_TOKENS = 56 * 56, 28 * 28


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    common.add_common(parser, batch=None, out="runs/bench/scaling")
    parser.add_argument("--dim", type=int, default=192, help="channels; default: 192")
    parser.add_argument("--grids", type=int, nargs="+", help="rows and columns of tokens")
    parser.add_argument(
        "--tokens", type=int,
        help="tokens in a batch, so that small maps come as many images; at least one image; "
        f"default: {TOKENS}, with --networks {NETWORK_TOKENS}",
    )  # fmt: skip
    common.add_contest(parser, UNIT, gib=4)
    parser.add_argument(
        "--networks", action="store_true", help="whole networks: lisa_vit_small and its DeiT twin"
    )
    parser.add_argument("--sizes", type=int, nargs="+", help="of their images, in pixels")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Measure, map by map, and write CSVs, page and picture."""
    effort = _effort(options)
    device, dtype = common.device(options.device), common.DTYPES[options.dtype]
    tokens = options.tokens or (NETWORK_TOKENS if options.networks else TOKENS)
    subjects = chosen(options.only, SUBJECTS, UNIT)
    common.use_threads(options.threads)
    header = conditions(arguments)
    if options.networks:
        header["Setting"] = f"{options.dtype}, {effort.rounds} rounds"
        networks.write(options.out, header, effort.sizes, tokens, dtype, device, effort.rounds)
        return 0
    header["Setting"] = (
        f"{options.dim} channels, {max(1, options.dim // HEAD_DIM)} heads, {options.dtype}, up to "
        f"{effort.rounds} rounds, at least 3, {effort.budget:g} s per subject"
    )
    limits = Limits(effort.max_seconds, options.max_gib * 2**30, UNIT)
    rows: list[Row] = []
    batches: dict[int, int] = {}
    for cell in map(Cell, effort.grids):
        batches[cell.side] = batch = max(1, tokens // cell.tokens)
        setting = Setting(batch, options.dim, dtype, device)
        found = measure(setting, cell, subjects, limits, effort.rounds, effort.budget)
        rows += [per_image(row, batch) for row in found]
        print(_line(cell, rows), flush=True)
        # Whole after every map: an interrupted benchmark keeps what it has measured.
        lines = tables.csv_lines(rows, batches)
        write_atomically(options.out / "scaling.csv", csv_text(header, lines))
    _write(options.out, header, rows, subjects, batches)
    return 0


def per_image(row: Row, batch: int) -> Row:
    """Return the row with the times and bytes of one image; ratios stay what they are."""

    def time(timing: Timing | None) -> Timing | None:
        if timing is None:
            return None
        took = timing.seconds
        share = Spread(took.median / batch, took.low / batch, took.high / batch, took.n)
        return replace(timing, seconds=share)

    def memory(count: int | None) -> int | None:
        return None if count is None else count // batch

    return replace(
        row,
        forward=time(row.forward),
        training=time(row.training),
        saved=memory(row.saved),
        forward_peak=memory(row.forward_peak),
        training_peak=memory(row.training_peak),
    )


def _write(
    out: Path,
    header: dict[str, str],
    rows: Sequence[Row],
    subjects: Sequence[Subject],
    batches: dict[int, int],
) -> None:
    written = ["scaling.md", "scaling.csv"]
    if lines := tables.fit_lines(rows):
        write_atomically(out / "scaling_fits.csv", csv_text(header, lines))
        written.append("scaling_fits.csv")
    caption = f"{header['Hardware']}, {header['Threads']} threads · {header['Setting']}"
    write_atomically(out / "scaling.md", tables.page(header, rows, subjects, batches))
    if any(row.training for row in rows):
        style.save(scaling_figure(rows, subjects, caption), out, "scaling")
        written += ["scaling.png", "scaling.svg"]
    print("\n".join(tables.key_figures(rows)))
    print(f"{out}: {', '.join(written)}")


def _effort(options: argparse.Namespace) -> Effort:
    """Return the defaults with what the options change."""
    base = QUICK if options.quick else FULL
    effort = Effort(
        grids=tuple(sorted(options.grids or base.grids)),
        sizes=tuple(options.sizes or base.sizes),
        rounds=base.rounds if options.rounds is None else options.rounds,
        budget=base.budget if options.budget is None else options.budget,
        max_seconds=base.max_seconds if options.max_seconds is None else options.max_seconds,
    )
    for side in effort.grids:
        common.at_least("grids", side, 1)
    for size in effort.sizes:
        common.at_least("sizes", size, 16)
    common.at_least("rounds", effort.rounds, 1)
    if options.tokens is not None:
        common.at_least("tokens", options.tokens, 1)
    if options.dim < 8 or options.dim % 8 or (options.dim > HEAD_DIM and options.dim % HEAD_DIM):
        raise UserError(f"--dim must be a multiple of 8, above 64 of 64, not {options.dim}")
    return effort


def _line(cell: Cell, rows: Sequence[Row]) -> str:
    entries = [
        f"{row.subject} {tables.shown(row, 'training', row.training)}"
        for row in rows
        if row.cell == cell
    ]
    return f"{cell.side} x {cell.side}, ms per image: {'; '.join(entries)}"
