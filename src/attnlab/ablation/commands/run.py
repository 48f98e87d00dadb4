"""Running what is missing from a study; the command that needs no name."""

import argparse
import contextlib
import sys
from collections.abc import Sequence

from attnlab.ablation import parse, resources, rundir
from attnlab.ablation import plan as planning
from attnlab.ablation.cells import Result
from attnlab.ablation.commands import dry_run, report
from attnlab.ablation.commands.options import Trials, add_places, plan_of
from attnlab.ablation.errors import UserError
from attnlab.ablation.plan import Plan
from attnlab.ablation.schema import Ablations

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
        "--workers", metavar="N", type=int, help="trials at a time; default: what fits the machine"
    )


def run(options: argparse.Namespace, trials: Trials) -> int:
    """Run the command and return the exit code."""
    if options.list:
        _list(parse.load(options.file))
        return 0
    plan = plan_of(options)
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers must be at least 1, not {options.workers}")
    if options.dry_run:
        dry_run.show(plan, options.workers)
        return 0
    if options.report:
        report.write(plan, plan.results())
        return 0
    slots = resources.slots(plan.profile, options.workers or resources.room(plan.profile))
    plan.directory.mkdir(parents=True, exist_ok=True)
    with rundir.locked(plan.directory / rundir.LOCK, f"{plan.directory} is driven already"):
        planning.check_directory(plan)
        if warning := resources.overload(plan.profile, len(slots)):
            print(f"run_ablation: warning: {warning}", file=sys.stderr)
        return _run(plan, slots, trials)


def _run(plan: Plan, slots: Sequence[dict[str, str]], trials: Trials) -> int:
    """Run what is missing, in a study directory that this process has locked."""
    from attnlab.ablation.journal import NAME, Journal
    from attnlab.ablation.launch import LocalLauncher
    from attnlab.ablation.progress import view
    from attnlab.ablation.runner import Runner

    results = plan.results()
    planning.check_logged(plan, results)
    done = {result.trial.run_dir for result in results}
    missing = [trial for trial in plan.trials if trial.run_dir not in done]
    shown = view(total=len(plan.trials), done=len(done))
    shown.say(f"{plan.title}, {len(done)} done, {len(slots)} at a time")
    launcher = LocalLauncher(slots, module=trials.module, preload=trials.preload)
    with Runner(plan, launcher, shown, len(slots)) as runner:
        if errors := runner.preflight(missing):
            raise UserError("\n".join(errors))
        if runner.interrupted and missing:
            print(_to_do(plan, results))
            return INTERRUPTED
        planning.claim_directory(plan)
        journal = Journal(plan.study, plan.directory / NAME, plan.trials)
        with shown, contextlib.closing(runner.run(missing)) as finished:
            for result in finished:
                planning.check_logged(plan, [result])
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
    print("profiles:")
    for profile in ablations.profiles.values():
        print(f"  {profile.name}: {profile.about}")
