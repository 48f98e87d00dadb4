"""Starting trials: one interface, and the launcher for this machine."""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

from attnlab.ablation import cells, resources, rundir
from attnlab.ablation.errors import UserError
from attnlab.ablation.trial import run_command

TICK_S = 0.2
GRACE_S = 5.0
OWN_MODULES = ("attnlab.ablation.cli", "attnlab.ablation.trial")


@dataclass(frozen=True)
class Job:
    """One command to run.

    Attributes:
        name: What events are told apart by.
        arguments: What follows ``python -m attnlab``.
        log: File that is begun with its command line, and its output appended.
        lock: File that it holds locked while it lives, if any.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path
    lock: Path | None = None


@dataclass(frozen=True)
class Started:
    """The process of a job is there."""

    job: Job


@dataclass(frozen=True)
class Ended:
    """The process of a job is gone; `exit_code` is minus the signal where one killed it."""

    job: Job
    exit_code: int
    wall_s: float


Events = Generator[Started | Ended | None]


class Launcher(Protocol):
    """Runs jobs, wherever that may be."""

    def run(self, jobs: Iterable[Job]) -> Events:
        """Run every job once and say what happens, with a None several times a second.

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
class _Running:
    job: Job
    environment: Mapping[str, str]
    process: ForkServerProcess
    started: float
    told: signal.Signals | None = None

    def tell(self, number: signal.Signals) -> None:
        """Send a signal, once, to the process and whatever it started."""
        if self.told == number or self.process.pid is None:
            return
        self.told = number
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:  # not yet the leader of its group
            self.process.kill()

    def end(self) -> Ended:
        """Return what became of the process, which has ended."""
        wall_s = time.perf_counter() - self.started
        self.process.join()
        return Ended(self.job, self.process.exitcode or 0, wall_s)


class LocalLauncher:
    """Runs jobs side by side on this machine.

    Jobs start from a fork server, a process that has imported torch already, so that each costs a
    fraction of a second over its training.

    Args:
        slots: One environment for each job that may run at a time. The fork server starts with the
            first, since some variables are read once, when torch is imported.
        module: What ``python -m`` runs.
        preload: Modules that the fork server imports.
    """

    def __init__(
        self,
        slots: Sequence[Mapping[str, str]],
        *,
        module: str = "attnlab",
        preload: Sequence[str] = (),
    ) -> None:
        os.environ.update(slots[0])
        self._free = deque(slots)
        self._module = module
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*OWN_MODULES, *preload])
        self._draining = False
        self._stopped_at: float | None = None

    def drain(self) -> str:
        """Start no further job; `run` ends when the running ones have."""
        self._draining = True
        return "finishing the running trials; press Ctrl-C again to stop now"

    def stop(self) -> str:
        """Ask the running jobs to end, and kill those that have not after `GRACE_S` seconds."""
        self._draining = True
        self._stopped_at = self._stopped_at or time.monotonic()
        return "stopping the running trials"

    def run(self, jobs: Iterable[Job]) -> Events:
        """Run `jobs` in their order, as many at a time as there are slots."""
        waiting = iter(jobs)
        running: dict[object, _Running] = {}
        exhausted = False
        try:
            while True:
                while self._free and not self._draining and not exhausted:
                    job = next(waiting, None)
                    if job is None:
                        exhausted = True
                        break
                    started = self._start(job)
                    running[started.process.sentinel] = started
                    yield Started(job)
                if not running:
                    break
                sentinels = [each.process.sentinel for each in running.values()]
                for sentinel in connection.wait(sentinels, TICK_S):
                    ended = running.pop(sentinel)
                    self._free.append(ended.environment)
                    yield ended.end()
                self._end(running.values())
                yield None
        finally:
            for each in running.values():
                each.tell(signal.SIGKILL)
                each.process.join()

    def _start(self, job: Job) -> _Running:
        environment = self._free.popleft()
        line = cells.command_line(job.arguments, environment, resources.python())
        job.log.write_text(f"{rundir.PROMPT}{line}\n", encoding="utf-8")
        process = self._context.Process(
            target=run_command,
            args=(self._module, job.arguments, job.log, job.lock, environment),
            name=job.name,
        )
        started = time.perf_counter()
        # The fork server and its children inherit this: Ctrl-C in the terminal is for the driver.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        except (EOFError, ConnectionError):
            raise UserError("the fork server of the trials died; see its output above") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return _Running(job, environment, process, started)

    def _end(self, running: Iterable[_Running]) -> None:
        if self._stopped_at is None:
            return
        late = time.monotonic() > self._stopped_at + GRACE_S
        for each in running:
            each.tell(signal.SIGKILL if late else signal.SIGTERM)
