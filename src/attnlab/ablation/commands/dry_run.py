"""Saying what a study would run and cost, and running nothing but a probe where it is asked for."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from attnlab.ablation import cells, predict, resources
from attnlab.ablation.cells import Result, Trial
from attnlab.ablation.errors import UserError
from attnlab.ablation.launch import Launcher
from attnlab.ablation.plan import Plan

LISTED = 100
"""Trials beyond which only the first ones are listed, unless all are asked for."""
FIRST = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that go with ``--dry-run``."""
    group = parser.add_argument_group("with --dry-run")
    group.add_argument(
        "--probe", action="store_true",
        help="predict from short runs of each cell on this machine, which take a minute or so each",
    )  # fmt: skip
    group.add_argument("--all", action="store_true", help=f"list all trials, even over {LISTED}")


def check(options: argparse.Namespace) -> None:
    """See to it that these options go together with the others.

    Raises:
        UserError: They do not.
    """
    for name in ("probe", "all"):
        if getattr(options, name) and not options.dry_run:
            raise UserError(f"--{name} needs --dry-run")
    if options.probe and getattr(options, "launcher", "local") != "local":
        raise UserError(
            "--probe measures the machine it runs on: leave out --launcher, on a node like those "
            "of the study"
        )


def show(
    plan: Plan,
    workers: int | None,
    *,
    every: bool = False,
    probe: Callable[[], Launcher] | None = None,
) -> None:
    """Print the trials with their command lines, and what those to run will cost.

    Args:
        plan: The study.
        workers: Trials at a time; what fits the machine when None.
        every: Whether to list all trials, however many.
        probe: Makes what runs the short runs that the cost is predicted from; None for no probe.

    Raises:
        UserError: A short run failed.
    """
    results = plan.results()
    print(plan.title)
    _list(plan, results, every)
    count = workers or max(1, resources.room(plan.profile))
    rests = predict.basis(plan, results)
    missing = len(plan.trials) - len(results)
    if probe is not None and missing:
        from attnlab.ablation.probe import measure

        load, cores = os.getloadavg()[0], resources.cores()
        if load > cores / 2:
            print(
                f"run_ablation: warning: this machine is busy (load {load:.1f} on {cores} cores), "
                "and what is measured now holds for a machine as busy",
                file=sys.stderr,
            )
        rests = measure(plan, probe())
        kept = predict.write_probe(plan, rests)
        print(f"\nkept for the runs to come: {kept}")
    print(f"\n{predict.predict(plan, results, count, rests)}")


def command(plan: Plan, trial: Trial) -> str:
    """Return the line that runs `trial` by hand."""
    environment = resources.environment(plan.profile)
    return cells.command_line(plan.arguments(trial), environment, resources.python())


def _list(plan: Plan, results: Sequence[Result], every: bool) -> None:
    done = {result.trial.run_dir for result in results}
    shown = plan.trials if every or len(plan.trials) <= LISTED else plan.trials[:FIRST]
    for trial in shown:
        print(f"\n{trial} ({'done' if trial.run_dir in done else 'to run'})")
        print(f"  {command(plan, trial)}")
    if hidden := len(plan.trials) - len(shown):
        print(f"\nand {hidden:,} more trials; --all lists them")
