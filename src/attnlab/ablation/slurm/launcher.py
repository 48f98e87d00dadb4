"""Running trials as arrays of SLURM, and following them until each has ended."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.ablation import failures, rundir
from attnlab.ablation.attempts import Failure
from attnlab.ablation.errors import UserError
from attnlab.ablation.launch import RETRIES, Again, Ended, Events, Job, Started
from attnlab.ablation.slurm import client, submission
from attnlab.ablation.slurm.arrays import Arrays
from attnlab.ablation.slurm.client import Entry, LimitError
from attnlab.ablation.slurm.queue import located
from attnlab.ablation.slurm.settings import SlurmSettings
from attnlab.ablation.slurm.submission import Submission, Task
from attnlab.ablation.slurm.verdict import Verdict, judge

TICK_S = 0.2
POLL_S = (2.0, 30.0)
"""Seconds between two questions to SLURM: at first, and at most."""
SETTLE_S = 10.0
"""How long what a trial wrote on another machine may take to be seen here."""
FULL_S = 300.0
"""When to try again where SLURM took no more jobs, and few of ours have ended since."""
RETURNS = 20
"""Times a stopped trial that SLURM did not requeue is submitted again within one start."""


@dataclass
class _Tracked:
    """A trial in the queue."""

    job: Job
    task: Task
    array: Submission
    index: int
    started: bool = False
    gone: float | None = None

    @property
    def name(self) -> str:
        return f"{self.array.job}_{self.index}"


class SlurmLauncher:
    """Runs jobs as arrays of SLURM, one task for each.

    What waits or runs already is followed, and not submitted again. The jobs belong to SLURM:
    when `run` is left, they stay in the queue.

    Args:
        study_dir: The study's directory, which this process has locked.
        arrays: What submits them.
        settings: How many there may be.
    """

    def __init__(self, study_dir: Path, arrays: Arrays, settings: SlurmSettings) -> None:
        self._study_dir = study_dir
        self._arrays = arrays
        self._settings = settings
        self._pending: list[Job] = []
        self._tracked: dict[str, _Tracked] = {}
        self._tries: dict[str, int] = {}
        self._returns: dict[str, int] = {}
        self._throttles: dict[str, int] = {}
        self._full: tuple[int, float] | None = None
        self._left = False

    follows = True

    @property
    def jobs(self) -> list[str]:
        """Identities of the arrays that are followed."""
        return sorted({each.array.job for each in self._tracked.values()}, key=int)

    def drain(self) -> str:
        """Stop following; the jobs stay in SLURM's queue."""
        self._left = True
        if not self._tracked:
            return "leaving; the same command follows whatever is in SLURM's queue by then"
        count, jobs = len(self._tracked), " ".join(self.jobs)
        return (
            f"leaving {count} trials in SLURM's queue (end them by: scancel {jobs}); "
            "the same command follows them again"
        )

    stop = drain

    def run(self, jobs: Iterable[Job]) -> Events:
        """Run `jobs`, and say what happens to them."""
        interval = POLL_S[0]
        self.detach(jobs)
        while self._goes_on():
            asked = time.monotonic()
            while time.monotonic() < asked + interval and self._goes_on():
                time.sleep(TICK_S)
                yield None
                yield from self._finished()
            if not self._goes_on():
                return
            interval = min(interval * 1.5, POLL_S[1])
            try:
                yield from self._follow(self._queue())
                self._submit()
            except UserError:  # a busy or restarting controller; the trials run on
                if not self._tracked:
                    raise

    def _goes_on(self) -> bool:
        return bool(self._tracked or self._pending) and not self._left

    def detach(self, jobs: Iterable[Job]) -> int:
        """Submit as many of `jobs` as SLURM takes, and return how many are left."""
        self._take(jobs, self._queue())
        self._submit()
        return len(self._pending)

    def _queue(self) -> list[Entry]:
        return client.queue(submission.job_name(self._study_dir))

    def _take(self, jobs: Iterable[Job], entries: Sequence[Entry]) -> None:
        """Take jobs; those that are in the queue already are followed."""
        places = located(submission.read_all(self._study_dir), entries)
        for job in jobs:
            place = places.get(job.folder.resolve())
            if place is None:
                self._pending.append(job)
                continue
            entry, array = place
            if not array.job:
                array.note_job(entry.job)
            task = array.tasks[entry.index]
            self._tracked[job.name] = _Tracked(job, task, array, entry.index)

    def _submit(self) -> None:
        """Submit what is pending, in arrays as large as SLURM takes them."""
        size = self._room()
        while self._pending and size:
            try:
                self._submit_array(self._pending[:size])
            except LimitError:
                if size == 1 and not self._tracked:
                    raise
                if size == 1:
                    self._full = len(self._tracked), time.monotonic()
                size //= 2
                continue
            del self._pending[:size]
            size = min(size, self._room())

    def _room(self) -> int:
        """Return how many trials are to be submitted now."""
        pending, active = len(self._pending), len(self._tracked)
        # Many small arrays in place of a few large ones would wear SLURM down.
        if (most := self._settings.max_submitted) is not None:
            room = most - active
            if room < min(pending, max(1, most // 4)):
                return 0
            pending = min(pending, room)
        if self._full is not None:
            count, since = self._full
            if active > count * 3 // 4 and time.monotonic() < since + FULL_S:
                return 0
            self._full = None
        if self._settings.at_once is not None and self._settings.at_once <= active:
            return 0
        return min(pending, self._arrays.largest())

    def _submit_array(self, jobs: Sequence[Job]) -> None:
        at_once = self._settings.at_once
        share = None if at_once is None else max(1, at_once - len(self._tracked))
        array = self._arrays.submit(jobs, share)
        if share is not None:
            self._throttles[array.job] = share
        for index, job in enumerate(jobs):
            self._tracked[job.name] = _Tracked(job, array.tasks[index], array, index)

    def _share_out(self) -> None:
        """Let later arrays have what earlier ones no longer need of the trials at a time."""
        left = self._settings.at_once
        if left is None:
            return
        for job in self.jobs:
            share = max(1, left)
            if self._throttles.get(job) != share:
                client.throttle(job, share)
                self._throttles[job] = share
            left -= sum(each.array.job == job for each in self._tracked.values())

    def _finished(self) -> Events:
        """Say which running trials have a result, which needs no question to SLURM."""
        for tracked in list(self._tracked.values()):
            if tracked.started and _is_over(tracked.task.run_dir):
                verdict = judge(tracked.task, tracked.array, tracked.index, lost=False)
                if verdict is Verdict.DONE:
                    yield self._end(tracked, verdict)

    def _follow(self, entries: Sequence[Entry]) -> Events:
        """Compare what is tracked with SLURM's queue."""
        places = {(entry.script, entry.index): entry for entry in entries}
        for tracked in list(self._tracked.values()):
            entry = places.get((str(tracked.array.script), tracked.index))
            if entry is not None:
                tracked.gone = None
                if not entry.waits and not tracked.started:
                    tracked.started = True
                    yield Started(tracked.job)
                continue
            now = time.monotonic()
            tracked.gone = now if tracked.gone is None else tracked.gone
            lost = now >= tracked.gone + SETTLE_S
            verdict = judge(tracked.task, tracked.array, tracked.index, lost=lost)
            if verdict is Verdict.UNKNOWN:
                continue
            if not tracked.started:
                tracked.started = True
                yield Started(tracked.job)
            if verdict is Verdict.DONE or not self._may_return(tracked, verdict):
                yield self._end(tracked, verdict)
                continue
            del self._tracked[tracked.job.name]
            self._pending.insert(0, tracked.job)
            yield Again(tracked.job, _reason(verdict))
        self._share_out()

    def _may_return(self, tracked: _Tracked, verdict: Verdict | Failure) -> bool:
        """Return whether a trial that has not finished is submitted again, and count that."""
        counts, most = self._tries, RETRIES
        if verdict is Verdict.STOPPED:
            counts, most = self._returns, RETURNS
        elif isinstance(verdict, Failure) and not verdict.kind.retried:
            return False
        counts[tracked.job.name] = counts.get(tracked.job.name, 0) + 1
        return counts[tracked.job.name] <= most

    def _end(self, tracked: _Tracked, verdict: Verdict | Failure) -> Ended:
        del self._tracked[tracked.job.name]
        failure = verdict if isinstance(verdict, Failure) else None
        exit_code = failure.exit_code if failure else 0
        if verdict is Verdict.STOPPED:
            exit_code = failures.STOPPED
        wall_s = rundir.read_json(tracked.task.run_dir / rundir.DRIVER).get("wall_s", 0.0)
        return Ended(tracked.job, exit_code, float(wall_s), failure)


def _reason(verdict: Verdict | Failure) -> str:
    if isinstance(verdict, Failure):
        return f"{verdict.error} ({verdict.kind})"
    return "it was stopped, and SLURM does not run it again"


def _is_over(run_dir: Path) -> bool:
    """Return whether a trial has written its result, and its task what it cost."""
    try:
        times = [(run_dir / name).stat().st_mtime_ns for name in (rundir.RESULT, rundir.DRIVER)]
    except FileNotFoundError:
        return False
    return times[0] <= times[1]
