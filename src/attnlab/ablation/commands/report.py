"""Reporting on what has finished, and running nothing."""

import argparse
from collections.abc import Mapping, Sequence

from attnlab.ablation import attempts, board, parse
from attnlab.ablation.attempts import Failure
from attnlab.ablation.cells import Result
from attnlab.ablation.commands.options import Trials, add_places, plan_of, plan_of_study
from attnlab.ablation.errors import UserError
from attnlab.ablation.plan import Plan
from attnlab.ablation.search import command as search


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--study", metavar="NAME", help="the study")
    what.add_argument("--all", action="store_true", help="every study that has results, on a page")
    add_places(parser)


def run(options: argparse.Namespace, trials: Trials) -> int:
    """Run the command and return the exit code."""
    if options.all:
        _write_all(options)
        return 0
    if search.is_search(options):
        return search.report(options, trials)
    plan = plan_of(options)
    write(plan, plan.results())
    return 0


def write(plan: Plan, results: Sequence[Result]) -> None:
    """Print the report of a study, write it into its directory, and say how to see more.

    Raises:
        UserError: Nothing has finished.
    """
    from attnlab.ablation import report

    if not results:
        raise UserError(f"{plan.directory}: no trial has finished yet")
    folder = plan.directory / "report"
    report.write(plan.study, plan.profile, plan.cells, results, folder, _failures(plan, results))
    print(board.line(plan))


def _write_all(options: argparse.Namespace) -> None:
    """Report on every study of the file that has results in the profile, on one page."""
    from attnlab.ablation import report

    ablations = parse.load(options.file)
    profile = ablations.profile(options.profile)
    found, absent = [], {}
    for name in ablations.studies:
        try:
            plan = plan_of_study(options, ablations, name)
        except UserError as error:  # of this study alone: the others have theirs
            absent[name] = str(error)
            continue
        if results := plan.results():
            failures = _failures(plan, results)
            material = (plan.study, plan.profile, plan.cells, results, plan.directory / "report")
            found.append((*material, failures))
        else:
            absent[name] = "no trial has finished yet"
    absent |= {
        name: f"a search; 'report --study {name}' reports on it" for name in ablations.searches
    }
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        raise UserError(f"profile {profile.name}: no study has results ({reasons})")
    report.write_all(found, absent, options.output_dir / "report", profile.name)


def _failures(plan: Plan, results: Sequence[Result]) -> Mapping[tuple[str, int], Failure]:
    """Return why trials without a result failed, by key of the cell and seed."""
    done = {(result.trial.cell.key, result.trial.seed) for result in results}
    return {
        (trial.cell.key, trial.seed): failure
        for trial in plan.trials
        if (trial.cell.key, trial.seed) not in done
        if (failure := attempts.read_failure(trial.run_dir))
    }
