"""Bringing what Optuna and TensorBoard show of a study up to date with its run directories."""

import argparse

from attnlab.ablation import board, rundir
from attnlab.ablation.commands.options import Trials, add_study, plan_of
from attnlab.ablation.errors import UserError
from attnlab.ablation.search import command as search


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_study(parser)


def run(options: argparse.Namespace, trials: Trials) -> int:
    """Run the command and return the exit code.

    Raises:
        UserError: Nothing has run, or a driver that runs keeps the journal itself.
    """
    if search.is_search(options):
        return search.collect(options, trials)
    plan = plan_of(options)
    if not (plan.directory / "study.json").exists():
        raise UserError(f"{plan.directory}: nothing to collect, no trial has run yet")
    with rundir.locked(plan.directory / rundir.LOCK, f"{plan.directory}: its journal is kept"):
        from attnlab.ablation.journal import NAME, Journal

        journal = Journal(plan.study, plan.directory / NAME, plan.trials)
        board.write(plan)
    made = ", made anew" if journal.rebuilt else ""
    print(f"{plan.directory / NAME}: {journal.held} trials, {journal.added} of them new{made}")
    return 0
