"""Printing, or running, the one command that repeats a trial."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from attnlab.ablation import repeat, rundir
from attnlab.ablation.cells import Trial
from attnlab.ablation.commands.options import Trials, add_study, plan_of
from attnlab.ablation.errors import UserError
from attnlab.ablation.repeat import Repeat
from attnlab.ablation.search import plan as searches
from attnlab.ablation.search.command import is_search


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "cell", metavar="CELL",
        help="its key, its name, or labels such as depth=4; of a search such as 'trial 7'",
    )  # fmt: skip
    add_study(parser)
    parser.add_argument(
        "--seed", metavar="N", type=int, help="default: the first seed that has finished"
    )
    parser.add_argument(
        "--run", action="store_true", help="run it, and compare its metrics with the recorded ones"
    )
    parser.add_argument(
        "--into", metavar="DIR", type=Path,
        help="the new run directory; default: in .reproduced of the --output-dir",
    )  # fmt: skip


def run(options: argparse.Namespace, trials: Trials) -> int:
    """Run the command and return the exit code: 1 where the metrics differ."""
    plan = searches.begun(searches.make(options)) if is_search(options) else plan_of(options)
    trial = repeat.find(plan, options.cell, options.seed)
    name = f"{trial.run_dir.parent.name}-{trial.run_dir.name}"
    default = options.output_dir / ".reproduced" / plan.study.name / plan.profile.name / name
    into = options.into or default
    if options.run and (into / rundir.RESULT).exists():
        raise UserError(f"{into} holds a finished run; choose another --into")
    how = repeat.of(plan, trial, into, _head())
    print(f"# {trial}, cell {trial.cell.key}")
    for note in how.notes:
        print(f"# {note}")
    print(how.line())
    return _run(trial, how, into.resolve(), trials.module) if options.run else 0


def _run(trial: Trial, how: Repeat, into: Path, module: str) -> int:
    """Run a trial once more and say how its metrics differ from the recorded ones."""
    recorded = rundir.read_result(trial)
    if recorded is None:
        raise UserError(f"{trial} has not finished: there is nothing to compare with")
    into.mkdir(parents=True, exist_ok=True)
    log = into / rundir.LOG
    with rundir.locked(into / rundir.LOCK, f"{into} is in use"), log.open("wb") as output:
        code = subprocess.run(
            [sys.executable, "-m", module, *how.arguments],
            cwd=how.directory,
            env={**os.environ, **how.environment},
            stdout=output,
            stderr=output,
        ).returncode
    result = rundir.read_result(Trial(trial.cell, trial.seed, into))
    if result is None:
        reason = rundir.last_error(log) or f"exit code {code}"
        raise UserError(f"{trial} failed: {reason} (log: {log})")
    count, lines = repeat.differences(recorded.record["metrics"], result.record["metrics"])
    kept = "; perf/ was left out, which measures the machine"
    if not lines:
        print(f"equal: all {count} metrics are those of {trial.run_dir}{kept}")
        return 0
    print(f"different: {len(lines)} of {count} metrics{kept}")
    for line in lines:
        print(f"  {line}")
    return 1


def _head() -> str:
    """Return the commit that is checked out; empty outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
