"""What the driver's commands do when the study they are given is a search."""

import argparse
import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from attnlab.ablation import board, parse, predict, resources, rundir, snapshot
from attnlab.ablation import plan as planning
from attnlab.ablation.commands import dry_run
from attnlab.ablation.commands.launchers import LAUNCHERS
from attnlab.ablation.commands.options import Trials, Watched
from attnlab.ablation.errors import UserError
from attnlab.ablation.search import plan as searches
from attnlab.ablation.search.plan import POSTGRES, SearchPlan

if TYPE_CHECKING:  # optuna takes a quarter of a second to import
    import optuna

    from attnlab.ablation.search.ledger import Drivers, Ledger

INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a search to those of the command that runs it."""
    parser.add_argument(
        "--storage", metavar="URL",
        help="of a search: postgresql://USER@HOST/DATABASE, which drivers on many nodes share",
    )  # fmt: skip


def is_search(options: argparse.Namespace) -> bool:
    """Return whether the study that the options name is a search.

    Raises:
        UserError: It is none, but has an option of one.
    """
    found = options.study in parse.load(options.file).searches
    if not found and getattr(options, "storage", None) is not None:
        raise UserError(f"--storage is for searches; study {options.study} is a grid")
    return found


def run(options: argparse.Namespace, trials: Trials) -> int:
    """Run what is missing from a search, and report on it; return the exit code.

    Raises:
        UserError: The options do not suit a search, or something cannot run.
    """
    found = searches.make(options)
    if options.launcher != "local":
        raise UserError(
            f"--launcher {options.launcher}: a search runs on the machine of its driver; start one "
            "driver on each of several nodes, with --storage postgresql://..."
        )
    for name in ("retry", "probe", "all"):
        if getattr(options, name):
            raise UserError(f"--{name} is for grids; study {options.study} is a search")
    if options.report:
        return report(options, trials)
    if options.dry_run:
        _dry_run(found, options.workers)
        return 0
    if (found.storage == POSTGRES) != (options.storage is not None):
        begun = "with --storage" if options.storage is None else "without --storage"
        raise UserError(f"{found.plan.directory} holds a search that was begun {begun}")
    watched = Watched(options.file, found.plan.base)
    found.plan.directory.mkdir(parents=True, exist_ok=True)
    if options.storage is not None:
        ended = _run_shared(found, options, trials)
    else:
        with _alone(found):
            planning.check_directory(found.plan)
            ended = _run_alone(found, options, trials)
    for line in watched.changes():
        print(line)
    return ended


def report(options: argparse.Namespace, trials: Trials) -> int:
    """Report on what has finished of a search; return the exit code.

    Raises:
        UserError: Nothing has run.
    """
    found = searches.make(options)
    if not searches.records(found):
        raise UserError(f"{found.plan.directory}: no trial has run yet")
    _report(found)
    return 0


def collect(options: argparse.Namespace, trials: Trials) -> int:
    """Bring the journal of a search up to date with its run directories; return the exit code.

    Raises:
        UserError: Nothing has run, or a driver that runs keeps the journal itself.
    """
    found = searches.make(options)
    if not (count := len(searches.records(found))):
        raise UserError(f"{found.plan.directory}: nothing to collect, no trial has run yet")
    with _alone(found):
        from attnlab.ablation.journal import NAME
        from attnlab.ablation.search.restore import restore

        made = restore(found, found.plan.directory / NAME, settle=True)
        board.write(found.plan, found.search.space)
    print(f"{found.plan.directory / NAME}: {count} trials{', made anew' if made else ''}")
    return 0


def _alone(found: SearchPlan) -> contextlib.AbstractContextManager[None]:
    directory = found.plan.directory
    return rundir.locked(directory / rundir.LOCK, f"{directory} is driven already")


def _run_alone(found: SearchPlan, options: argparse.Namespace, trials: Trials) -> int:
    """Run a search that is kept in a journal, in a directory that this process has locked."""
    import optuna

    from attnlab.ablation import journal
    from attnlab.ablation.search.ledger import Alone
    from attnlab.ablation.search.restore import restore

    def begin() -> optuna.Study:
        planning.claim_directory(found.plan)
        path = found.plan.directory / journal.NAME
        restore(found, path)
        return optuna.load_study(storage=journal.storage(path), study_name=found.name)

    return _drive(found, options, trials, Alone(), begin)


def _run_shared(found: SearchPlan, options: argparse.Namespace, trials: Trials) -> int:
    """Run this driver's share of a search that is kept in a database."""
    import optuna

    try:
        import psycopg  # noqa: F401  # named here, since sqlalchemy would not say what to install
        import sqlalchemy
    except ModuleNotFoundError as error:
        raise UserError(f"--storage needs {error.name}: pip install 'attnlab[postgres]'") from None
    from attnlab.ablation.search import postgres

    url = postgres.url_of(options.storage)
    lost = (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError)
    try:
        with postgres.Shared(url, found.name) as drivers:

            def begin() -> optuna.Study:
                study = postgres.open_study(found, drivers)
                planning.claim_directory(found.plan)
                return study

            return _drive(found, options, trials, drivers, begin)
    except lost as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--storage: {reason}; the same command goes on") from None


def _drive(
    found: SearchPlan,
    options: argparse.Namespace,
    trials: Trials,
    drivers: "Drivers",
    begin: "Callable[[], optuna.Study]",
) -> int:
    """Run trials until there are enough, and report.

    Args:
        found: The search.
        options: Of the command line.
        trials: What a trial runs.
        drivers: This driver among others.
        begin: Makes the search ready, once its commands have been checked.
    """
    from attnlab.ablation.progress import view
    from attnlab.ablation.runner import Runner
    from attnlab.ablation.search.drive import Drive
    from attnlab.ablation.search.ledger import Ledger

    code = snapshot.take(options.file.resolve().parent, options.output_dir / ".code")
    found = dataclasses.replace(found, plan=planning.freeze(found.plan, code))
    launching = LAUNCHERS["local"](found.plan, options, trials, code)
    if launching.warning:
        print(f"run_ablation: warning: {launching.warning}", file=sys.stderr)
    finished = sum(record.result is not None for record in searches.records(found))
    shown = view(total=found.search.trials, done=finished)
    shown.say(f"{found.title}, {finished} done, {launching.about}")
    shown.say(f"code: {code or snapshot.NONE}")
    with Runner(found.plan, launching.launcher, shown, code.id if code else "") as runner:
        # Once a trial has run, others can.
        if not finished and (errors := runner.preflight(list(found.corners()))):
            raise UserError("\n".join(errors))
        if runner.interrupted:
            print(_to_do(found, found.search.trials - finished))
            return INTERRUPTED
        ledger = Ledger(found, begin(), drivers)
        board.write(found.plan, found.search.space)
        with shown:
            Drive(found, ledger, runner, shown).run()
    return _conclude(found, ledger, interrupted=runner.interrupted)


def _conclude(found: SearchPlan, ledger: "Ledger", *, interrupted: bool) -> int:
    """Report on a search that this driver has nothing left to do for."""
    from optuna.trial import TrialState

    counts = ledger.counts()
    running = counts[TrialState.RUNNING]
    left = found.search.trials - sum(counts.values()) + counts[TrialState.WAITING] + running
    if sum(counts.values()) > left:
        _report(found)
    if left and interrupted:
        print(_to_do(found, left))
        return INTERRUPTED
    if running:
        print(f"{running} trials still run with other drivers")
    return int(counts[TrialState.COMPLETE] == 0)


def _to_do(found: SearchPlan, left: int) -> str:
    return f"{left} of {found.search.trials} trials are missing; the same command runs them"


def _report(found: SearchPlan) -> None:
    from attnlab.ablation.search import report as reporting

    folder = found.plan.directory / "report"
    print(reporting.write(found, folder))
    print(f"\nreport: {folder / 'report.md'}")
    print(board.line(found.plan))


def _dry_run(found: SearchPlan, workers: int | None) -> None:
    """Print the command of a trial at either end of the space, and what the search will cost."""
    results = [record.result for record in searches.records(found) if record.result]
    profile, left = found.plan.profile, found.search.trials - len(results)
    print(found.title)
    for trial in found.corners():
        print(f"\nsuch as {trial}\n  {dry_run.command(found.plan, trial)}")
    rests = predict.basis(found.plan, results)
    ahead = itertools.islice(itertools.cycle(found.corners()), left)
    plan = dataclasses.replace(found.plan, trials=tuple(ahead))
    count = workers or max(1, resources.room(profile))
    print(f"\n{predict.predict(plan, [], count, rests)}")
