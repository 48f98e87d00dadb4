"""Showing what every trial of a study is doing, or how far all studies are."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from attnlab.ablation import overview, parse, survey
from attnlab.ablation.commands.options import Trials, add_study, plan_of_study
from attnlab.ablation.errors import UserError
from attnlab.ablation.overview import Overview
from attnlab.ablation.plan import Plan
from attnlab.ablation.schema import Ablations
from attnlab.ablation.slurm.queue import SlurmQueue
from attnlab.ablation.states import TrialState

if TYPE_CHECKING:
    from rich.console import RenderableType

WATCH_S = 5.0
MANY = 1000
"""Trials whose list is a plain text in a terminal, too, since a table of them takes seconds."""


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
    look = _looking(options, parse.load(options.file), options.study)
    if options.json:
        print(json.dumps(look().record(), indent=1))
    elif options.watch is None:
        _show(look(), options.all)
    else:
        _watch(look, options.all, options.watch)
    return 0


def _looking(
    options: argparse.Namespace, ablations: Ablations, name: str
) -> Callable[[], Overview]:
    """Return what looks at one study, which it plans once where it can.

    Raises:
        UserError: An option names what there is not, or the directory holds something else.
    """
    if name not in ablations.searches:
        plan = plan_of_study(options, ablations, name)
        return lambda: overview.of(plan, _survey(plan))

    from attnlab.ablation.search import plan as searches

    found = searches.make(argparse.Namespace(**{**vars(options), "study": name}))

    def look() -> Overview:
        plan = searches.begun(found)
        return overview.of(plan, _survey(plan), found.search.trials)

    return look


def _survey(plan: Plan) -> list[TrialState]:
    return survey.survey(plan, [SlurmQueue(plan.directory)])


def _all_studies(options: argparse.Namespace) -> None:
    """Print a line for each study that the profile has a base for."""
    ablations = parse.load(options.file)
    profile = ablations.profile(options.profile)
    records = {}
    studies = {name: search.study for name, search in ablations.searches.items()}
    for name, study in {**ablations.studies, **studies}.items():
        if study.base not in profile.bases:
            line = f"profile {profile.name} has no base {study.base!r}"
        else:
            try:
                seen = _looking(options, ablations, name)()
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
    if sys.stdout.isatty() and not (every and len(seen.states) > MANY):
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
        seen.title, "", *lines, *([left_out] if left_out else []), "",
        *details, *([""] if details else []), seen.summary,
    ]  # fmt: skip


def _rendered(seen: Overview, every: bool, *, summary_first: bool = False) -> "RenderableType":
    """Return the same for a terminal; a live view is cut at the end where it does not fit."""
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
    parts: list[RenderableType] = [*tables, *texts, *details]
    return Group(Text(seen.title), *([summary, *parts] if summary_first else [*parts, summary]))


def _headings(seen: Overview) -> tuple[str, ...]:
    return "cell", "done", seen.plan.study.metric, "others"


def _watch(look: Callable[[], Overview], every: bool, seconds: float) -> None:
    """Show the study again and again; Ctrl-C ends it, which is no failure."""
    try:
        if not sys.stdout.isatty():
            while True:
                _show(look(), every)
                print(flush=True)
                time.sleep(seconds)
        from rich.live import Live

        with Live(auto_refresh=False) as live:
            while True:
                live.update(_rendered(look(), every, summary_first=True), refresh=True)
                time.sleep(seconds)
    except KeyboardInterrupt:
        return
