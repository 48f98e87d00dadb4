"""Reporting on what has finished, and running nothing."""

import argparse
import shlex
from collections.abc import Sequence

from attnlab.ablation.cells import Result
from attnlab.ablation.commands.options import Trials, add_study, plan_of
from attnlab.ablation.errors import UserError
from attnlab.ablation.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_study(parser)


def run(options: argparse.Namespace, trials: Trials) -> int:
    """Run the command and return the exit code."""
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
    report.write(plan.study, plan.profile, plan.cells, results, plan.directory / "report")
    print(f"dashboard: tensorboard --logdir {shlex.quote(str(plan.directory))}")
