"""Showing what every trial of a study is doing, or how far all studies are."""

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from attnlab.ablation import overview, parse, survey
from attnlab.ablation.commands.options import Trials, add_study, plan_of, plan_of_study
from attnlab.ablation.errors import UserError
from attnlab.ablation.overview import Overview
from attnlab.ablation.plan import Plan
from attnlab.ablation.slurm.queue import SlurmQueue

if TYPE_CHECKING:
    from rich.console import RenderableType

WATCH_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_study(parser, required=False)
    parser.add_argument("--all", action="store_true", help="list every cell and every trial")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--watch", metavar="SECONDS", type=float, nargs="?", const=WATCH_S,
        help=f"show it again every so often, until Ctrl-C; default: {WATCH_S:g} s",
    )  # fmt: skip
    how.add_argument("--json", action="store_true", help="print everything for other programs")


def run(options: argparse.Namespace, trials: Trials) -> int:
    """Run the command and return the exit code."""
    if options.watch is not None and not 0 < options.watch < 86400:
        raise UserError(f"--watch must be a positive number of seconds, not {options.watch:g}")
    if options.study is None:
        if options.watch is not None:
            raise UserError("--watch needs the --study to watch")
        _all_studies(options)
        return 0
    plan = plan_of(options)
    if options.json:
        print(json.dumps(_overview(plan).record(), indent=1))
    elif options.watch is None:
        _show(_overview(plan), options.all)
    else:
        _watch(plan, options.all, options.watch)
    return 0


def _overview(plan: Plan) -> Overview:
    return overview.of(plan, survey.survey(plan, [SlurmQueue(plan.directory)]))


def _all_studies(options: argparse.Namespace) -> None:
    """Print a line for each study that the profile has a base for."""
    ablations = parse.load(options.file)
    profile = ablations.profile(options.profile)
    records = {}
    for name, study in ablations.studies.items():
        if study.base not in profile.bases:
            line = f"profile {profile.name} has no base {study.base!r}"
        else:
            try:
                seen = _overview(plan_of_study(options, ablations, name))
            except UserError as error:  # another study may well be readable
                line = str(error)
            else:
                records[name] = {k: v for k, v in seen.record().items() if k != "trials"}
                line = seen.summary
        if not options.json:
            print(f"{name}: {line}")
    if options.json:
        print(json.dumps(records, indent=1))


def _show(seen: Overview, every: bool) -> None:
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False, soft_wrap=every).print(_rendered(seen, every))
        return
    print("\n".join(_lines(seen, every)))


def _lines(seen: Overview, every: bool) -> list[str]:
    """Return the lines of a plain text."""
    rows, left_out = seen.cell_rows(every)
    table = [_headings(seen), *rows] if rows else []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    details = list(seen.trial_lines(every))
    return [
        seen.plan.title, "", *lines, *([left_out] if left_out else []), "",
        *details, *([""] if details else []), seen.summary,
    ]  # fmt: skip


def _rendered(seen: Overview, every: bool) -> "RenderableType":
    """Return the same for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows, left_out = seen.cell_rows(every)
    table = Table(*_headings(seen))
    for row in rows:
        table.add_row(*map(Text, row))
    styles = {"running": "green", "failed": "red", "queued": "yellow", "done": ""}
    details = []
    for line in seen.trial_lines(every):
        word = line.partition(": ")[2].partition(" ")[0].rstrip(",")
        details.append(Text(line, style=styles.get(word, "")))
    texts = [Text(left_out)] if left_out else []
    tables = [table] if rows else []
    summary = Text(seen.summary, style="bold")
    return Group(Text(seen.plan.title), *tables, *texts, *details, summary)


def _headings(seen: Overview) -> tuple[str, ...]:
    return "cell", "done", seen.plan.study.metric, "others"


def _watch(plan: Plan, every: bool, seconds: float) -> None:
    """Show the study again and again; Ctrl-C ends it, which is no failure."""
    try:
        if not sys.stdout.isatty():
            while True:
                _show(_overview(plan), every)
                print(flush=True)
                time.sleep(seconds)
        from rich.live import Live

        with Live(auto_refresh=False) as live:
            while True:
                live.update(_rendered(_overview(plan), every), refresh=True)
                time.sleep(seconds)
    except KeyboardInterrupt:
        return
