"""What became of a trial that is no longer in SLURM's queue."""

from enum import Enum
from pathlib import Path

from attnlab.ablation import attempts, failures, rundir, supervise
from attnlab.ablation.attempts import Failure, Kind
from attnlab.ablation.slurm import client
from attnlab.ablation.slurm.submission import Submission, Task

_KINDS = {"OUT_OF_MEMORY": Kind.MEMORY, "DEADLINE": Kind.TIME, "CANCELLED": Kind.STOPPED}


class Verdict(Enum):
    """How a trial stands that has not failed."""

    DONE = "there is a valid result"
    STOPPED = "it was stopped and saved a checkpoint"
    UNKNOWN = "nothing is seen yet"


def judge(task: Task, array: Submission, index: int, *, lost: bool) -> Verdict | Failure:
    """Find out what became of the task `index` of an array.

    Args:
        task: The task.
        array: Its array.
        index: Its place there.
        lost: Whether it left the queue so long ago that what it wrote would be seen by now; if
            nothing is there, that is noted as a failure.
    """
    if rundir.finished(task.run_dir, task.seed):
        return Verdict.DONE
    name = f"{array.job}_{index}"
    attempt = attempts.read_attempt(task.run_dir)
    begun = attempt is not None and attempt.job == name
    if begun and (failure := attempts.read_failure(task.run_dir)):
        return failure
    if not lost:
        return Verdict.UNKNOWN
    fate, exit_code = client.fate(name)
    if fate in ("PREEMPTED", "NODE_FAIL", "TIMEOUT"):
        return Verdict.STOPPED
    # Whoever cancels a trial lets it save a checkpoint, too, and wants no other turn.
    if fate != "CANCELLED" and exit_code == failures.STOPPED:
        return Verdict.STOPPED
    if not begun or attempt is None:
        output = array.folder / f"{index}.out"
        return _never_began(task, name, fate, output, 1 + (attempt.number if attempt else 0))
    if fate in _KINDS:
        error = f"SLURM ended it: {fate}"
        return supervise.fail(task.run_dir, attempt, _KINDS[fate], error, -9)
    failure = supervise.end(task.run_dir, attempt, -9, task.seed)
    return failure or Verdict.DONE


def _never_began(task: Task, name: str, fate: str, output: Path, number: int) -> Failure:
    """Note that a task ended before attempt `number` of its trial could begin."""
    task.run_dir.mkdir(parents=True, exist_ok=True)
    if fate == "CANCELLED":
        kind, error = Kind.STOPPED, f"job {name} was cancelled before it began"
    else:
        last = rundir.last_error(output)
        kind = failures.classify(1, output)[0] if last else Kind.TRANSIENT
        error = f"job {name} ended before the trial began: {last or fate or 'in silence'}"
    failure = Failure(kind, error, 1, number, attempts.now())
    attempts.write_failure(task.run_dir, failure)
    return failure
