"""Starting trials: one interface, and the launcher for this machine."""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Protocol, cast

from attnlab.ablation import attempts, cells, failures, resources, rundir, supervise
from attnlab.ablation.attempts import Attempt, Failure, Kind
from attnlab.ablation.errors import UserError
from attnlab.ablation.forked import Forks, Process
from attnlab.ablation.resources import Slot

TICK_S = 0.2
GRACE_S = 30.0
"""How long a trial that was asked to stop may take to save where it is."""
RETRIES = 2
"""How often a trial is run again in one start of the driver, where that makes sense."""
PAUSE_S = 2.0
"""Before the first retry; ten times as long before the second."""
STALLS = 3
"""How often in a row a trial may stop unasked without having got any further."""


@dataclass(frozen=True)
class Job:
    """One command to run: a trial, or the check of one.

    Attributes:
        name: What events are told apart by.
        arguments: What follows ``python -m attnlab``.
        folder: Where its log goes; the run directory of a trial.
        seed: Of the trial; None for a check, which leaves no result.
    """

    name: str
    arguments: tuple[str, ...]
    folder: Path
    seed: int | None = None

    @property
    def log(self) -> Path:
        """File that begins with its command line, and takes its output."""
        return self.folder / rundir.LOG


@dataclass(frozen=True)
class Started:
    """A job has begun."""

    job: Job


@dataclass(frozen=True)
class Again:
    """An attempt has ended without a result, and another one will follow."""

    job: Job
    reason: str


@dataclass(frozen=True)
class Ended:
    """A job is over.

    Attributes:
        job: The job.
        exit_code: Of the last attempt; `failures.STOPPED` if it ended because it was asked to.
        wall_s: Seconds of all attempts in this start together.
        failure: Why it failed; None where it did not, or its run directory says so.
    """

    job: Job
    exit_code: int
    wall_s: float
    failure: Failure | None = None


Events = Generator[Started | Again | Ended | None]


class Launcher(Protocol):
    """Runs jobs, wherever that may be."""

    @property
    def follows(self) -> bool:
        """Whether a job that runs already is followed; elsewhere that is an error."""

    def run(self, jobs: Iterable[Job]) -> Events:
        """Run every job and say what happens, with a None several times a second.

        A job is taken from `jobs` when there is room for it. Closing the generator kills what
        still runs.
        """

    def drain(self) -> str:
        """Start no further job; `run` ends when the running ones have.

        Returns:
            What happens now, for the person who asked for it.
        """

    def stop(self) -> str:
        """Start no further job and end the running ones; return as `drain` does."""


@dataclass
class _Turns:
    """A job, and its attempts in this start of the driver."""

    job: Job
    failures: int = 0
    stalls: int = 0
    step: int = 0
    spent_s: float = 0.0
    due: float = 0.0
    failure: Failure | None = None

    def stalled(self) -> bool:
        """Take note that the job stopped, and return whether it did so too often in one place."""
        progress = rundir.read_progress(self.job.folder)
        step = progress.step if progress else 0
        self.stalls = 0 if step > self.step else self.stalls + 1
        self.step = max(self.step, step)
        return self.stalls >= STALLS


@dataclass
class _Running:
    turns: _Turns
    slot: Slot
    process: Process
    attempt: Attempt | None
    ends: float
    oom_kills: int = field(default_factory=resources.oom_kills)
    overdue: bool = False
    asked_at: float | None = None

    def ask(self) -> None:
        if self.asked_at is None:
            self.asked_at = time.monotonic()
            self.process.ask()
        elif time.monotonic() > self.asked_at + GRACE_S:
            self.process.kill()


class LocalLauncher:
    """Runs jobs side by side on this machine, each in its slot.

    Trials that fail for want of memory, or by what may pass, are run again; so are those that
    somebody else stopped. They go on from their checkpoints.

    Args:
        slots: One environment for each job that may run at a time.
        module: What ``python -m`` runs.
        preload: Modules that are imported once for all jobs.
        code: Identity of the code that the jobs run; empty where unknown.
        time_limit_s: How long a trial may take in one start of the driver; None for ever.
    """

    def __init__(
        self,
        slots: Sequence[Mapping[str, str]],
        *,
        module: str = "attnlab",
        preload: Sequence[str] = (),
        code: str = "",
        time_limit_s: float | None = None,
    ) -> None:
        self._forks = Forks(module, preload, slots[0])
        shares = resources.shares(len(slots), int(slots[0].get("OMP_NUM_THREADS", 1)))
        self._free = deque(map(Slot, slots, shares))
        self._workers = len(slots)
        self._code = code
        self._limit_s = float("inf") if time_limit_s is None else time_limit_s
        self._again: list[_Turns] = []
        self._draining = False
        self._stopping = False

    follows = False

    def drain(self) -> str:
        """Start no further job; `run` ends when the running ones have."""
        self._draining = True
        return "finishing the running trials; press Ctrl-C again to stop now"

    def stop(self) -> str:
        """Ask the running jobs to end, and kill those that have not after `GRACE_S` seconds."""
        self._draining = self._stopping = True
        return "stopping the running trials"

    def run(self, jobs: Iterable[Job]) -> Events:
        """Run `jobs` in their order, as many at a time as there are slots."""
        waiting = iter(jobs)
        running: dict[int, _Running] = {}
        try:
            while True:
                yield from self._fill(waiting, running)
                if not running and (self._draining or not self._again):
                    break
                for sentinel in connection.wait([*running], TICK_S):
                    each = running.pop(cast(int, sentinel))
                    self._free.append(each.slot)
                    yield self._ended(each)
                for each in running.values():
                    each.overdue = each.overdue or time.monotonic() > each.ends
                    if self._stopping or each.overdue:
                        each.ask()
                yield None
            yield from map(_over, self._again)
            self._again.clear()
        finally:
            for each in running.values():
                each.process.kill()
                each.process.end()

    def _fill(self, waiting: Iterator[Job], running: dict[int, _Running]) -> Events:
        while self._free and not self._draining:
            due = [turns for turns in self._again if turns.due <= time.monotonic()]
            if due:
                self._again.remove(turns := due[0])
                turns.failure = None
            elif (job := next(waiting, None)) is not None:
                turns = _Turns(job)
                yield Started(job)
            else:
                return
            try:
                attempt = self._begin(turns.job)
            except UserError as error:
                yield self._verdict(turns, attempts.unnoted(Kind.TRANSIENT, str(error)))
            else:
                each = self._start(turns, attempt)
                running[each.process.sentinel] = each

    def _begin(self, job: Job) -> Attempt | None:
        job.folder.mkdir(parents=True, exist_ok=True)
        if job.seed is None:
            return None
        lock = job.folder / rundir.LOCK
        with rundir.locked(lock, f"{job.folder} is in use", patience_s=rundir.PATIENCE_S):
            return supervise.begin(job.folder, launcher="local", code=self._code)

    def _start(self, turns: _Turns, attempt: Attempt | None) -> _Running:
        job, slot = turns.job, self._free.popleft()
        lock = None if attempt is None else job.folder / rundir.LOCK
        line = cells.command_line(job.arguments, slot.environment, resources.python())
        job.log.write_text(f"{rundir.PROMPT}{line}\n", encoding="utf-8")
        process = self._forks.start(job.arguments, job.log, lock, slot)
        ends = time.monotonic() + self._limit_s - turns.spent_s
        return _Running(turns, slot, process, attempt, ends)

    def _ended(self, each: _Running) -> Ended | Again:
        """Find out what became of a process that has ended, and what is to follow."""
        turns, job = each.turns, each.turns.job
        exit_code, wall_s = each.process.end()
        turns.spent_s += wall_s
        done = exit_code == 0 if job.seed is None else rundir.finished(job.folder, job.seed)
        if each.attempt is not None:
            supervise.note_cost(job.folder, each.attempt, wall_s, self._workers)
        if done:
            return Ended(job, 0, turns.spent_s)
        if self._stopping:
            return _over(turns)
        if exit_code < 0 and resources.oom_kills() > each.oom_kills:
            with job.log.open("a", encoding="utf-8") as log:
                log.write(f"\n{failures.KERNEL_KILLED}\n")
        if job.seed is None or each.attempt is None:
            return self._verdict(turns, attempts.unnoted(*failures.classify(exit_code, job.log)))
        if each.overdue:
            error = f"it took over {self._limit_s / 60:g} min"
            failure = supervise.fail(job.folder, each.attempt, Kind.TIME, error, exit_code)
            return self._verdict(turns, failure)
        found = supervise.end(job.folder, each.attempt, exit_code, job.seed)
        if found is None and turns.stalled():
            error = f"it stopped {STALLS} times in a row at step {turns.step}"
            found = supervise.fail(job.folder, each.attempt, Kind.STOPPED, error, exit_code)
        return self._verdict(turns, found)

    def _verdict(self, turns: _Turns, failure: Failure | None) -> Ended | Again:
        """Decide whether a job that has not finished is run again; None: somebody stopped it."""
        turns.failure = failure
        if failure is None:
            self._again.append(turns)
            return Again(turns.job, "it was stopped by somebody else")
        if self._draining or turns.failures >= RETRIES or not failure.kind.retried:
            return _over(turns)
        turns.due = time.monotonic() + PAUSE_S * 10**turns.failures
        turns.failures += 1
        self._again.append(turns)
        return Again(turns.job, f"{failure.error} ({failure.kind})")


def _over(turns: _Turns) -> Ended:
    """Return the end of a job that has not finished: stopped, unless it failed."""
    exit_code = failures.STOPPED if turns.failure is None else turns.failure.exit_code
    return Ended(turns.job, exit_code, turns.spent_s, turns.failure)
