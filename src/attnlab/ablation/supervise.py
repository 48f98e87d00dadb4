"""The frame around one attempt of a trial, for whatever starts its process on the machine it uses.

The caller holds the lock of the run directory during `begin`, and has seen the process end before
`end`.
"""

import os
from pathlib import Path
from typing import Literal

from attnlab.ablation import attempts, failures, rundir
from attnlab.ablation.attempts import Attempt, Failure, Kind


def begin(
    run_dir: Path, *, launcher: Literal["local", "slurm"], code: str, job: str = "", node: str = ""
) -> Attempt:
    """Make `run_dir` ready for an attempt and note that it starts.

    What an earlier attempt left stays only where it ran the same code, so that a run is never
    half the work of one version and half of another. It goes as well where a resumed attempt
    failed by an error of its own, which may be that of the checkpoint.

    Args:
        run_dir: Where the trial lives; made when missing.
        launcher: What starts it.
        code: Identity of the code it runs; empty where unknown.
        job: The scheduler's name of it; empty where there is no scheduler.
        node: Host it runs on; this one when empty.

    Raises:
        OSError: The directory cannot be written.
    """
    last = attempts.read_attempt(run_dir)
    failure = attempts.read_failure(run_dir)
    keep = last is not None and last.code == code != "" and not _spoilt(last, failure)
    rundir.prepare(run_dir, keep)
    attempt = Attempt(
        number=1 + (last.number if last else 0),
        launcher=launcher,
        job=job,
        node=node or os.uname().nodename,
        code=code,
        started=attempts.now(),
        resumed=rundir.checkpoints(run_dir),
    )
    attempts.write_attempt(run_dir, attempt)
    return attempt


def end(run_dir: Path, attempt: Attempt, exit_code: int, seed: int) -> Failure | None:
    """Find out what became of an attempt whose process has ended, and note a failure down.

    Args:
        run_dir: Where the trial lives.
        attempt: What `begin` returned.
        exit_code: Of the process; minus the signal where one killed it.
        seed: The trial's.

    Returns:
        None where there is a valid result, and where the trial stopped on request
        (`failures.STOPPED`), to be run again.
    """
    if rundir.finished(run_dir, seed) or exit_code == failures.STOPPED:
        return None
    kind, error = failures.classify(exit_code, run_dir / rundir.LOG)
    if kind == Kind.ERROR and attempts.read_attempt(run_dir) != attempt:
        kind, error = Kind.TRANSIENT, "its run directory was removed while it ran"
    return fail(run_dir, attempt, kind, error, exit_code)


def fail(run_dir: Path, attempt: Attempt, kind: Kind, error: str, exit_code: int) -> Failure:
    """Note down that an attempt has failed, and why."""
    failure = Failure(
        kind=kind, error=error, exit_code=exit_code, attempt=attempt.number, finished=attempts.now()
    )
    attempts.write_failure(run_dir, failure)
    return failure


def note_cost(run_dir: Path, attempt: Attempt, wall_s: float, workers: int) -> None:
    """Note what an attempt took beside those whose work it continued.

    Args:
        run_dir: Where the trial lives.
        attempt: What `begin` returned.
        wall_s: Seconds from the start to the end of its process.
        workers: Trials that shared the machine: its speed was measured in such company.
    """
    before = rundir.read_json(run_dir / rundir.DRIVER).get("wall_s") if attempt.resumed else 0.0
    total_s = wall_s + (before if isinstance(before, float) else 0.0)
    rundir.write_json(run_dir / rundir.DRIVER, {"wall_s": total_s, "workers": workers}, sync=False)


def _spoilt(last: Attempt, failure: Failure | None) -> bool:
    """Return whether an attempt failed by an error of its own, and had a checkpoint before it."""
    if failure is None or failure.attempt != last.number:  # that of a job around it
        return False
    return failure.kind == Kind.ERROR and last.resumed
