"""Running what is missing from a study; the command that needs no name."""

import argparse
import contextlib
import sys
from collections.abc import Sequence

from attnlab.ablation import attempts, board, parse, predict, rundir, snapshot
from attnlab.ablation import plan as planning
from attnlab.ablation.cells import Result, Trial
from attnlab.ablation.commands import dry_run, launchers, report
from attnlab.ablation.commands.launchers import Launching
from attnlab.ablation.commands.options import Trials, Watched, add_places, plan_of
from attnlab.ablation.errors import UserError
from attnlab.ablation.launch import Launcher
from attnlab.ablation.plan import Plan
from attnlab.ablation.schema import Ablations
from attnlab.ablation.search import command as search
from attnlab.ablation.snapshot import Snapshot

INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--study", metavar="NAME", help="the study to run")
    what.add_argument("--list", action="store_true", help="show the studies and the profiles")
    add_places(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="show trials, commands and their cost")
    how.add_argument("--report", action="store_true", help="only report on what has finished")
    parser.add_argument(
        "--retry", choices=("failed",), help="run only those again that have failed"
    )
    dry_run.add_arguments(parser)
    launchers.add_arguments(parser)
    search.add_arguments(parser)


def run(options: argparse.Namespace, trials: Trials) -> int:
    """Run the command and return the exit code."""
    if options.list:
        _list(parse.load(options.file))
        return 0
    launchers.check(options)
    if search.is_search(options):
        return search.run(options, trials)
    plan = plan_of(options)
    dry_run.check(options)
    if options.dry_run:
        dry_run.show(
            plan,
            options.workers,
            every=options.all,
            probe=(lambda: launchers.local(plan, options, trials, None).launcher)
            if options.probe
            else None,
        )
        return 0
    if options.report:
        report.write(plan, plan.results())
        return 0
    watched = Watched(options.file, plan.base)
    plan.directory.mkdir(parents=True, exist_ok=True)
    # A driver that follows another as a job may start before that one has quite ended.
    patience_s = launchers.HANDOVER_S if options.chain else 0.0
    complaint = f"{plan.directory} is driven already"
    with rundir.locked(plan.directory / rundir.LOCK, complaint, patience_s):
        planning.check_directory(plan)
        code = snapshot.take(options.file.resolve().parent, options.output_dir / ".code")
        plan = planning.freeze(plan, code)
        launching = launchers.LAUNCHERS[options.launcher](plan, options, trials, code)
        if launching.warning:
            print(f"run_ablation: warning: {launching.warning}", file=sys.stderr)
        ended = _run(plan, launching, code, retry=options.retry == "failed")
    for line in watched.changes():
        print(line)
    return ended


def _run(plan: Plan, launching: Launching, code: Snapshot | None, *, retry: bool) -> int:
    """Run what is missing, in a study directory that this process has locked.

    Args:
        plan: The study.
        launching: What runs it.
        code: The code it runs.
        retry: Whether to run only what has failed.
    """
    from attnlab.ablation.journal import NAME, Journal
    from attnlab.ablation.progress import view
    from attnlab.ablation.runner import Runner

    results = plan.results()
    planning.check_logged(plan, results)
    missing = launching.choose(_missing(plan, results, retry))
    shown = view(total=len(plan.trials), done=len(results))
    shown.say(f"{plan.title}, {len(results)} done, {launching.about}")
    shown.say(f"code: {code or snapshot.NONE}")
    identity = code.id if code else ""
    with Runner(plan, launching.checker, shown, identity) as runner:
        if errors := runner.preflight(missing, launching.check_flags):
            raise UserError("\n".join(errors))
        if runner.interrupted and missing:
            print(_to_do(plan, results))
            return INTERRUPTED
    planning.claim_directory(plan)
    board.write(plan)
    predict.note(plan, results, missing, launching.workers or len(missing))
    if launching.leave is not None and missing:
        launching.leave(missing)
        return 0
    with Runner(plan, launching.launcher, shown, identity) as runner:
        journal = Journal(plan.study, plan.directory / NAME, plan.trials)
        with shown, contextlib.closing(runner.run(missing)) as finished:
            for result in finished:
                _check_logged(plan, result, launching.launcher)
                journal.add(result)
    results = plan.results()
    if results:  # none, when the first trials were interrupted: said below
        report.write(plan, results)
    left = len(plan.trials) - len(results)
    if left:
        print(_to_do(plan, results))
    if runner.interrupted and left:
        return INTERRUPTED
    return int(left > 0 or len(plan.measured(results)) < len(results))


def _missing(plan: Plan, results: Sequence[Result], retry: bool) -> Sequence[Trial]:
    """Return the trials without a result, or those of them that have failed."""
    done = {result.trial.run_dir for result in results}
    missing = [each for each in plan.trials if each.run_dir not in done]
    if retry:
        return [each for each in missing if attempts.read_failure(each.run_dir) is not None]
    return missing


def _check_logged(plan: Plan, result: Result, launcher: Launcher) -> None:
    """As `planning.check_logged`; the error also says what goes on without this driver."""
    try:
        planning.check_logged(plan, [result])
    except UserError as error:
        left = f"; {launcher.drain()}" if launcher.follows else ""
        raise UserError(f"{error}{left}") from None


def _to_do(plan: Plan, results: Sequence[Result]) -> str:
    left = len(plan.trials) - len(results)
    return f"{left} of {len(plan.trials)} trials are missing; the same command runs them"


def _list(ablations: Ablations) -> None:
    print(f"studies of {ablations.path}:")
    for study in ablations.studies.values():
        print(f"  {study.name}: {study.question}")
        for axis in study.axes:
            values = ", ".join(str(label) for label, _ in axis.cells)
            print(f"      {axis.name}: {values}; seeds {', '.join(map(str, study.seeds))}")
    for each in ablations.searches.values():
        print(f"  {each.study.name}: {each.study.question}")
        names = ", ".join(dimension.name for dimension in each.space)
        print(f"      search over {names}: {each.trials} trials, sampler {each.sampler}")
    print("profiles:")
    for profile in ablations.profiles.values():
        print(f"  {profile.name}: {profile.about}")
