"""What runs the trials of `run`: one function for each value of `--launcher`."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.ablation import resources
from attnlab.ablation.cells import Trial
from attnlab.ablation.commands.options import Trials
from attnlab.ablation.errors import UserError
from attnlab.ablation.launch import Launcher, LocalLauncher
from attnlab.ablation.plan import Plan
from attnlab.ablation.snapshot import Snapshot

ONLY_SLURM = ("cluster", "detach", "cancel_stale")
HANDOVER_S = 60.0
"""How long a driver waits for the one that submitted it to end."""


def everything(missing: Sequence[Trial]) -> Sequence[Trial]:
    """Return all trials that are missing, since nothing speaks against running them."""
    return missing


@dataclass(frozen=True)
class Launching:
    """How the trials of one start are run.

    Attributes:
        launcher: What runs them.
        checker: What checks their commands beforehand, on this machine.
        about: How many run at a time, for people.
        workers: How many that is; None where there is no limit to it.
        check_flags: What a check must be told, so that it does on this machine.
        warning: What is wrong with that; empty where nothing is.
        choose: Leaves out of the missing trials those that are not to be run now.
        leave: Starts trials and does not follow them; None where they shall be followed.
    """

    launcher: Launcher
    checker: Launcher
    about: str
    workers: int | None
    check_flags: tuple[str, ...] = ()
    warning: str = ""
    choose: Callable[[Sequence[Trial]], Sequence[Trial]] = everything
    leave: Callable[[Sequence[Trial]], None] | None = None


Prepare = Callable[[Plan, argparse.Namespace, Trials, Snapshot | None], Launching]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what runs the trials, and how many at a time."""
    parser.add_argument(
        "--launcher", choices=tuple(LAUNCHERS), default="local",
        help="what runs the trials: this machine, or a cluster; default: local",
    )  # fmt: skip
    parser.add_argument(
        "--workers", metavar="N", type=int, help="trials at a time; default: as many as there fit"
    )
    slurm = parser.add_argument_group("with --launcher slurm")
    slurm.add_argument(
        "--cluster", metavar="YAML", type=Path,
        help="what to ask of SLURM; wins over `slurm:` of the profile",
    )  # fmt: skip
    slurm.add_argument(
        "--detach", action="store_true",
        help="submit and leave; a small job submits what does not fit, or must run again",
    )  # fmt: skip
    slurm.add_argument(
        "--cancel-stale", action="store_true",
        help="cancel queued trials that no longer belong to the study",
    )  # fmt: skip
    slurm.add_argument("--chain", metavar="N", type=int, help=argparse.SUPPRESS)


def check(options: argparse.Namespace) -> None:
    """See to it that the options go together.

    Raises:
        UserError: They do not.
    """
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers must be at least 1, not {options.workers}")
    for name in ONLY_SLURM:
        if getattr(options, name) and options.launcher != "slurm":
            raise UserError(f"--{name.replace('_', '-')} needs --launcher slurm")


def local(
    plan: Plan, options: argparse.Namespace, trials: Trials, code: Snapshot | None
) -> Launching:
    """Run the trials on this machine.

    Raises:
        UserError: They want several machines, or more GPUs than there are.
    """
    if plan.profile.nodes_per_cell > 1:
        nodes = plan.profile.nodes_per_cell
        raise UserError(
            f"profile {plan.profile.name}: nodes_per_cell={nodes}: a trial on several machines "
            "needs --launcher slurm"
        )
    slots = resources.slots(plan.profile, options.workers or resources.room(plan.profile))
    paths = environment(code)
    minutes = plan.profile.time_limit_minutes
    launcher = LocalLauncher(
        [{**paths, **each} for each in slots],
        module=trials.module,
        preload=trials.preload,
        code=code.id if code else "",
        time_limit_s=None if minutes is None else minutes * 60,
    )
    warning = resources.overload(plan.profile, len(slots))
    return Launching(launcher, launcher, f"{len(slots)} at a time", len(slots), warning=warning)


def slurm(
    plan: Plan, options: argparse.Namespace, trials: Trials, code: Snapshot | None
) -> Launching:
    """Run the trials as arrays of SLURM."""
    from attnlab.ablation.commands.on_slurm import OnSlurm

    cluster = OnSlurm(plan, options, trials, code)
    at_once = cluster.settings.at_once
    return Launching(
        cluster.launcher,
        LocalLauncher([environment(code)], module=trials.module, preload=trials.preload),
        "by SLURM" + (f", {at_once} at a time" if at_once else ""),
        at_once,
        check_flags=(
            "--trainer.accelerator=cpu",
            "--trainer.devices=1",
            "--trainer.num_nodes=1",
        ),
        choose=cluster.choose,
        leave=cluster.leave if options.detach else None,
    )


def environment(code: Snapshot | None) -> dict[str, str]:
    """Return the variables of a process on this machine that runs `code`."""
    if code is None:
        return {}
    own = code.environment()["PYTHONPATH"]
    return {"PYTHONPATH": os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH"))))}


LAUNCHERS: Mapping[str, Prepare] = {"local": local, "slurm": slurm}
