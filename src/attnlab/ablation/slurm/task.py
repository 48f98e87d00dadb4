"""One task of an array: runs a trial on its node, `python -m attnlab.ablation.slurm.task`.

It ends with 0 if, and only if, the trial has a valid result, so that SLURM calls nothing else
COMPLETED. A trial that was stopped has saved a checkpoint: the task requeues itself and ends with
`failures.STOPPED`. It imports no torch, and runs outside the trial's container.
"""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from attnlab.ablation import failures, rundir, supervise
from attnlab.ablation.attempts import Attempt, Failure, Kind
from attnlab.ablation.errors import UserError
from attnlab.ablation.slurm import client, submission
from attnlab.ablation.slurm.submission import Submission, Task

GRACE_S = 60.0
"""How long a trial may take to save a checkpoint when its time is up."""
_PATIENCE_S = 10.0
_PR_SET_PDEATHSIG = 1


@dataclass
class Memory:
    """What a trial's turns in SLURM tell each other.

    Attributes:
        spent_s: Seconds that all of them took.
        stops: How often in a row the trial was stopped without having got any further.
        step: How far it was when it was last stopped.
    """

    spent_s: float = 0.0
    stops: int = 0
    step: int = -1


class Step:
    """The trial's process, which hears of the signals that SLURM sends to the task.

    Args:
        words: Its command.
        log: File that its output is appended to.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self._words = words
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._told: list[int] = []
        """What came, in order; a list, since it grows behind the back of whoever reads it."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._tell)

    def run(self, limit_s: float | None) -> int:
        """Run the command and return its exit code, minus the signal where one killed it.

        Args:
            limit_s: Seconds after which it is told to stop, and killed if it does not.

        Raises:
            subprocess.TimeoutExpired: The limit was reached.
        """
        if self._told:
            return failures.STOPPED
        with self._log.open("ab") as output:
            # Its group stays the task's, by which SLURM may look for processes.
            self._process = subprocess.Popen(
                self._words, stdout=output, stderr=output, preexec_fn=_die_with_task
            )
        if self._told:  # it came while the process was being made
            self._tell(self._told[-1], None)
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            raise
        # A step that was killed amid its last words was stopped, too; srun adds 128 to a signal.
        return failures.STOPPED if self._told and (code < 0 or code > 128) else code

    def _tell(self, number: int, frame: object) -> None:
        self._told.append(number)
        if self._process is None or self._process.poll() is not None:
            return
        # srun passes SIGUSR1 on to each process as it is; on SIGTERM it may end the step itself.
        self._process.send_signal(signal.SIGUSR1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the task with this index of a manifest and return the exit code."""
    manifest, index = sys.argv[1:] if arguments is None else arguments
    array = submission.read(Path(manifest).parent)
    if array is None:
        print(f"{manifest} is no manifest", file=sys.stderr)
        return 1
    task = array.tasks[int(index)]
    if rundir.finished(task.run_dir, task.seed):
        return 0
    task.run_dir.mkdir(parents=True, exist_ok=True)
    note = array.folder / "tasks" / f"{index}.json"
    while True:
        # Whoever holds the lock may be what is left of this very task on a node that was lost.
        try:
            with rundir.locked(task.run_dir / rundir.LOCK, "in use", patience_s=_PATIENCE_S):
                if rundir.finished(task.run_dir, task.seed):
                    return 0
                return _turn(array, task, note)
        except UserError as error:
            print(f"{task.run_dir} is {error}; waiting", file=sys.stderr, flush=True)


def _turn(array: Submission, task: Task, note: Path) -> int:
    """Run the trial once, note how it ended, and return the exit code of the task."""
    job = _job()
    attempt = supervise.begin(
        task.run_dir,
        launcher="slurm",
        job=job,
        node=os.environ.get("SLURMD_NODENAME") or os.uname().nodename,
        # Outside a repository, one array is the most that surely runs the same code.
        code=array.code or f"array {job.partition('_')[0]}",
    )
    log = task.run_dir / rundir.LOG
    words = (*array.launch, *task.arguments)
    settings = (f"{name}={shlex.quote(value)}" for name, value in array.environment.items())
    log.write_text(f"{rundir.PROMPT}{' '.join((*settings, shlex.join(words)))}\n", encoding="utf-8")
    memory = _remember(note)
    left_s = None if array.limit_s is None else max(0.0, array.limit_s - memory.spent_s)
    began = time.monotonic()
    step = Step(words, log)
    failure: Failure | None
    try:
        code = step.run(left_s)
        failure = supervise.end(task.run_dir, attempt, code, task.seed)
    except subprocess.TimeoutExpired:
        code = 1
        error = f"it took over {array.limit_s:.0f} s in all"
        failure = supervise.fail(task.run_dir, attempt, Kind.TIME, error, code)
    spent_s = time.monotonic() - began
    memory.spent_s += spent_s
    supervise.note_cost(task.run_dir, attempt, spent_s, 1)  # it has its machines for itself
    if rundir.finished(task.run_dir, task.seed):
        return 0
    if failure is None:
        failure = _stopped(array, task, attempt, memory)
    rundir.write_json(note, asdict(memory))
    if failure is None:
        _requeue(job)
        return failures.STOPPED
    print(f"{task.run_dir}: {failure.error}", file=sys.stderr)
    return code if 0 < code < 128 and code != failures.STOPPED else 1


def _stopped(array: Submission, task: Task, attempt: Attempt, memory: Memory) -> Failure | None:
    """Return why a trial that was stopped is not to be run again, if so."""
    progress = rundir.read_progress(task.run_dir)
    step = progress.step if progress else 0
    memory.stops = 0 if step > memory.step else memory.stops + 1
    memory.step = max(memory.step, step)
    if memory.stops <= array.max_stops:
        return None
    times = f"{memory.stops} times in a row at step {memory.step}"
    error = f"it was stopped {times}; give it more time"
    return supervise.fail(task.run_dir, attempt, Kind.STOPPED, error, failures.STOPPED)


def _requeue(job: str) -> None:
    """Ask for another turn, unless somebody has cancelled the job; then it is the driver's."""
    try:
        if client.state(job) == "RUNNING":
            client.requeue(job)
    except UserError as error:
        print(f"{job} is not requeued: {error}", file=sys.stderr)


def _job() -> str:
    names = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
    return "_".join(os.environ[name] for name in names)


def _remember(note: Path) -> Memory:
    try:
        return Memory(**rundir.read_json(note))
    except TypeError:
        return Memory()


def _die_with_task() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
