"""Running what is missing from a study, and answering Ctrl-C while it runs."""

import contextlib
import dataclasses
import signal
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from attnlab.ablation import cells, rundir
from attnlab.ablation.cells import Result, Trial
from attnlab.ablation.launch import Ended, Events, Job, Launcher, Started
from attnlab.ablation.plan import Plan
from attnlab.ablation.progress import PlainView


class Runner:
    """Runs trials of one plan; a context in which Ctrl-C and SIGTERM stop trials, not the driver.

    The first Ctrl-C lets the running trials finish. The second one, or SIGTERM, ends them.

    Args:
        plan: What is run.
        launcher: What runs it.
        view: What shows it.
        workers: Trials at a time, noted down with each: its speed was measured in such company.

    Attributes:
        interrupted: Whether either came.
    """

    def __init__(self, plan: Plan, launcher: Launcher, view: PlainView, workers: int) -> None:
        self.interrupted = False
        self._workers = workers
        self._plan = plan
        self._launcher = launcher
        self._view = view
        self._stopped = False
        self._news: list[str] = []

    def __enter__(self) -> Self:
        signals = (signal.SIGINT, signal.SIGTERM)
        self._previous = {number: signal.signal(number, self._interrupt) for number in signals}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def preflight(self, missing: Iterable[Trial], flags: Sequence[str] = ()) -> list[str]:
        """Let the command of each cell in `missing` be parsed and its objects be built.

        Args:
            missing: Trials that are to run.
            flags: Further arguments, for a machine that is not the one they will run on.

        Returns:
            One line for each cell that is impossible; none where the checks were stopped, since
            those then fail for no fault of the cells.
        """
        first: dict[str, Trial] = {}
        for trial in missing:
            first.setdefault(trial.cell.key, trial)
        failed: dict[str, str] = {}
        with tempfile.TemporaryDirectory(prefix="attnlab-check-") as folder:
            jobs = [
                Job(
                    name=key,
                    arguments=(*self._plan.arguments(trial), *flags, "--check", "true"),
                    log=Path(folder) / key,
                )
                for key, trial in first.items()
            ]
            for event in self._events(jobs):
                if isinstance(event, Ended) and event.exit_code:
                    failed[event.job.name] = _reason(event).removeprefix("attnlab: error: ")
        if self._stopped:
            return []
        study = self._plan.study.name
        return [
            f"study {study}, cell {trial.cell.name}: {failed[key]}"
            for key, trial in first.items()
            if key in failed
        ]

    def run(self, missing: Sequence[Trial]) -> Generator[Result]:
        """Run each trial in `missing` once and yield the results as they come.

        Raises:
            UserError: Another process works in a run directory; nothing has been started.
            OSError: The driver cannot write. The running trials are killed, the finished ones stay.
        """
        for trial in missing:
            if trial.run_dir.exists():
                with rundir.locked(
                    trial.run_dir / rundir.LOCK,
                    f"{trial.run_dir} is in use",
                    patience_s=rundir.PATIENCE_S,
                ):
                    rundir.prepare(trial.run_dir, keep=False)
        trials = {str(trial.run_dir): trial for trial in missing}
        with contextlib.closing(self._events(map(self._job, missing))) as events:
            for event in events:
                if isinstance(event, Started):
                    self._view.started(trials[event.job.name])
                elif isinstance(event, Ended):
                    yield from self._ended(trials[event.job.name], event)
                self._view.tick()

    def _events(self, jobs: Iterable[Job]) -> Events:
        with contextlib.closing(self._launcher.run(jobs)) as events:
            for event in events:
                while self._news:
                    self._view.say(self._news.pop(0))
                yield event

    def _job(self, trial: Trial) -> Job:
        trial.run_dir.mkdir(parents=True, exist_ok=True)
        return Job(
            name=str(trial.run_dir),
            arguments=self._plan.arguments(trial),
            log=trial.run_dir / "log.txt",
            lock=trial.run_dir / rundir.LOCK,
        )

    def _ended(self, trial: Trial, event: Ended) -> Iterator[Result]:
        result = rundir.read_result(trial)
        if result is not None:
            measured: dict[str, Any] = {"wall_s": event.wall_s, "workers": self._workers}
            rundir.write_json(trial.run_dir / "driver.json", measured)
            name = self._plan.study.metric
            bad = cells.broken(result.record["metrics"], name)
            score = (
                f"{bad} is not finite" if bad else f"{name} {result.record['metrics'][name]:.4g}"
            )
            line = f"done {trial}: {score}, {event.wall_s:.1f} s"
            yield dataclasses.replace(result, **measured)
        elif self._stopped:
            line = f"stopped {trial}"
        else:
            line = f"failed {trial}: {_reason(event)} (log: {event.job.log})"
        self._view.ended(trial, line, ok=result is not None)

    def _interrupt(self, number: int, frame: object) -> None:
        """Handle a signal; printing waits, since the signal may have come amid a print."""
        if number == signal.SIGINT and not self.interrupted:
            self._news.append(self._launcher.drain())
        else:
            self._stopped = True
            self._news.append(self._launcher.stop())
        self.interrupted = True


def _reason(event: Ended) -> str:
    """Return in one line why a job ended without what it was to bring."""
    if event.exit_code < 0:
        return f"killed by {signal.Signals(-event.exit_code).name}"
    if event.exit_code == 0:
        return "ended well, but left no valid result.json"
    return rundir.last_error(event.job.log) or f"ended with exit code {event.exit_code}, in silence"
