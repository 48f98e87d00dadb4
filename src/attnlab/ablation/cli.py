"""The command line of the driver: `python run_ablation.py --study NAME`."""

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from attnlab.ablation import cells, parse, resources, rundir
from attnlab.ablation import plan as planning
from attnlab.ablation.adapt import adapt
from attnlab.ablation.cells import Result
from attnlab.ablation.errors import UserError
from attnlab.ablation.plan import Plan
from attnlab.ablation.schema import Ablations

PRELOAD = (
    "attnlab.cli",
    "attnlab.tasks.classification",
    "attnlab.data.base",
    "torch.utils.tensorboard",
)
"""What every trial imports, named only: the fork server imports it once for all of them."""

BAD_INPUT = 2
INTERRUPTED = 130


def main(
    args: Sequence[str] | None = None,
    *,
    module: str = "attnlab",
    preload: Sequence[str] = PRELOAD,
) -> int:
    """Run the driver and return its exit code.

    The code is 0 when every trial of the study has a result, 1 when some failed, 2 for bad input
    or a disk that cannot be written, and 130 when trials are missing because of an interruption.

    Args:
        args: The command line; `sys.argv[1:]` when None.
        module: What a trial runs by ``python -m``.
        preload: Modules that are imported once for all trials.
    """
    options = _parser().parse_args(args)
    try:
        return _main(options, module, preload)
    except UserError as error:
        message = str(error)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        message = (
            f"{error.filename or options.output_dir}: {error.strerror}; finished trials are kept"
        )
    except KeyboardInterrupt:
        print("run_ablation: interrupted", file=sys.stderr)
        return INTERRUPTED
    for line in message.splitlines():
        print(f"run_ablation: error: {line}", file=sys.stderr)
    return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_ablation.py",
        description="Run an ablation study, or what is missing from it, and report on it.",
        epilog="Ctrl-C finishes the running trials, twice stops them; a second start goes on.",
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--study", metavar="NAME", help="the study to run")
    what.add_argument("--list", action="store_true", help="show the studies and the profiles")
    parser.add_argument("--profile", metavar="NAME", default="laptop", help="default: laptop")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="show trials, commands and their cost")
    how.add_argument("--report", action="store_true", help="only report on what has finished")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="trials at a time; default: what fits the machine"
    )
    parser.add_argument(
        "--data.root", metavar="DIR", type=Path, dest="data_root",
        help="where the data are; default: where the profile's experiments say",
    )  # fmt: skip
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
        help="set an option of all trials over the profile's, such as trainer.max_epochs=5",
    )  # fmt: skip
    parser.add_argument(
        "--devices-per-cell", metavar="N", type=int,
        help="GPUs of one trial, 0 for none; default: what the profile says",
    )  # fmt: skip
    parser.add_argument(
        "--file", metavar="YAML", type=Path, default=Path("ablations.yaml"),
        help="where the studies are; default: ablations.yaml",
    )  # fmt: skip
    parser.add_argument(
        "--output-dir", metavar="DIR", type=Path, default=Path("runs/ablations"),
        help="where the runs are; default: runs/ablations",
    )  # fmt: skip
    return parser


def _main(options: argparse.Namespace, module: str, preload: Sequence[str]) -> int:
    ablations = parse.load(options.file)
    if options.list:
        _list(ablations)
        return 0
    study = ablations.study(options.study)
    stated = ablations.profile(options.profile)
    profile = adapt(stated, study, options.settings, options.devices_per_cell)
    if options.data_root is not None and not options.data_root.is_dir():
        raise UserError(f"--data.root must be a folder, not {str(options.data_root)!r}")
    plan = planning.make(study, profile, options.output_dir, options.data_root)
    planning.check_directory(plan)
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers must be at least 1, not {options.workers}")
    if options.dry_run:
        _dry_run(plan, options.workers)
        return 0
    if options.report:
        _report(plan, plan.results())
        return 0
    slots = resources.slots(profile, options.workers or resources.room(profile))
    plan.directory.mkdir(parents=True, exist_ok=True)
    with rundir.locked(plan.directory / rundir.LOCK, f"{plan.directory} is driven already"):
        planning.check_directory(plan)
        if warning := resources.overload(profile, len(slots)):
            print(f"run_ablation: warning: {warning}", file=sys.stderr)
        return _run(plan, slots, module, preload)


def _run(plan: Plan, slots: Sequence[dict[str, str]], module: str, preload: Sequence[str]) -> int:
    """Run what is missing, in a study directory that this process has locked."""
    from attnlab.ablation.journal import Journal
    from attnlab.ablation.launch import LocalLauncher
    from attnlab.ablation.progress import view
    from attnlab.ablation.runner import Runner

    results = plan.results()
    planning.check_logged(plan, results)
    done = {result.trial.run_dir for result in results}
    missing = [trial for trial in plan.trials if trial.run_dir not in done]
    shown = view(total=len(plan.trials), done=len(done))
    shown.say(f"{_title(plan)}, {len(done)} done, {len(slots)} at a time")
    launcher = LocalLauncher(slots, module=module, preload=preload)
    with Runner(plan, launcher, shown, len(slots)) as runner:
        if errors := runner.preflight(missing):
            raise UserError("\n".join(errors))
        if runner.interrupted and missing:
            print(_to_do(plan, results))
            return INTERRUPTED
        planning.claim_directory(plan)
        journal = Journal(plan.study, plan.directory / "optuna.journal", plan.measured(results))
        with shown, contextlib.closing(runner.run(missing)) as finished:
            for result in finished:
                planning.check_logged(plan, [result])
                if plan.measured([result]):
                    journal.add(result)
    results = plan.results()
    if results:  # none, when the first trials were interrupted: said below
        _report(plan, results)
    left = len(plan.trials) - len(results)
    if left:
        print(_to_do(plan, results))
    if runner.interrupted and left:
        return INTERRUPTED
    return int(left > 0 or len(plan.measured(results)) < len(results))


def _to_do(plan: Plan, results: Sequence[Result]) -> str:
    left = len(plan.trials) - len(results)
    return f"{left} of {len(plan.trials)} trials are missing; the same command runs them"


def _report(plan: Plan, results: Sequence[Result]) -> None:
    from attnlab.ablation import report

    if not results:
        raise UserError(f"{plan.directory}: no trial has finished yet")
    report.write(plan.study, plan.profile, plan.cells, results, plan.directory / "report")
    print(f"dashboard: tensorboard --logdir {shlex.quote(str(plan.directory))}")


def _dry_run(plan: Plan, workers: int | None) -> None:
    profile = plan.profile
    environment = {"OMP_NUM_THREADS": str(profile.threads_per_cell)}
    if not profile.gpus_per_cell:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    results = plan.results()
    done = {result.trial.run_dir for result in results}
    python = resources.python()
    print(_title(plan))
    for trial in plan.trials:
        print(f"\n{trial} ({'done' if trial.run_dir in done else 'to run'})")
        line = cells.command_line(plan.arguments(trial), environment, python)
        print(f"  {line}")
    count = workers or max(1, resources.room(profile))
    cost = planning.cost(plan, results, count)
    gpu_hours = cost.serial / 60 * profile.gpus_per_cell
    print(
        f"\nto run: {len(plan.trials) - len(done)} trials, {cost.serial:.1f} min one by one, "
        f"{cost.wall:.1f} min with {count} at a time"
        + (f", {gpu_hours:.1f} GPU-hours" if gpu_hours else "")
        + f" (estimated from {cost.source})"
    )


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


def _title(plan: Plan) -> str:
    return (
        f"study {plan.study.name}, profile {plan.profile.name}: "
        f"{len(plan.cells)} cells x {len(plan.study.seeds)} seeds = {len(plan.trials)} trials"
    )
