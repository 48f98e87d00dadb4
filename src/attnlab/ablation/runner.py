"""Running what is missing from a study, and answering Ctrl-C while it runs."""

import contextlib
import signal
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from attnlab.ablation import attempts, cells, failures, rundir
from attnlab.ablation.cells import Result, Trial
from attnlab.ablation.launch import Again, Ended, Events, Job, Launcher, Started
from attnlab.ablation.plan import Plan
from attnlab.ablation.progress import PlainView


class Runner:
    """Runs trials of one plan; a context in which Ctrl-C and SIGTERM stop trials, not the driver.

    The first Ctrl-C lets the running trials finish. The second one, or SIGTERM, ends them.

    Args:
        plan: What is run.
        launcher: What runs it.
        view: What shows it.
        code: Identity of the code that the trials run; empty where unknown.

    Attributes:
        interrupted: Whether either came.
    """

    def __init__(self, plan: Plan, launcher: Launcher, view: PlainView, code: str = "") -> None:
        self.interrupted = False
        self._code = code
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
        for trial in missing:
            attempt = attempts.read_attempt(trial.run_dir)
            if attempt is not None and attempt.code == self._code != "":
                first.pop(trial.cell.key, None)
        failed: dict[str, str] = {}
        with tempfile.TemporaryDirectory(prefix="attnlab-check-") as folder:
            jobs = [
                Job(
                    name=key,
                    arguments=(*self._plan.arguments(trial), *flags, "--check", "true"),
                    folder=Path(folder) / key,
                )
                for key, trial in first.items()
            ]
            for event in self.events(jobs):
                if isinstance(event, Ended) and event.failure is not None:
                    failed[event.job.name] = event.failure.error.removeprefix("attnlab: error: ")
        if self._stopped:
            return []
        study = self._plan.study.name
        return [
            f"study {study}, cell {trial.cell.name}: {failed[key]}"
            for key, trial in first.items()
            if key in failed
        ]

    def run(self, missing: Sequence[Trial]) -> Generator[Result]:
        """Run each trial in `missing` and yield the results as they come.

        Raises:
            UserError: Another process works in a run directory; nothing has been started.
            OSError: The driver cannot write. The running trials are killed, the finished ones stay.
        """
        for trial in missing:
            lock = trial.run_dir / rundir.LOCK
            if lock.exists() and not self._launcher.follows:
                complaint = f"{trial.run_dir} is in use"
                with rundir.locked(lock, complaint, patience_s=rundir.PATIENCE_S):
                    pass
        trials = {str(trial.run_dir): trial for trial in missing}
        with contextlib.closing(self.events(map(self._job, missing))) as events:
            for event in events:
                if isinstance(event, Started):
                    self._view.started(trials[event.job.name])
                elif isinstance(event, Again):
                    self._view.say(f"again {trials[event.job.name]}: {event.reason}")
                elif isinstance(event, Ended):
                    yield from self._ended(trials[event.job.name], event)
                self._view.tick()

    def events(self, jobs: Iterable[Job]) -> Events:
        """Run jobs and say what happens, as `Launcher.run`; Ctrl-C is answered meanwhile."""
        with contextlib.closing(self._launcher.run(jobs)) as events:
            for event in events:
                while self._news:
                    self._view.say(self._news.pop(0))
                yield event

    def _job(self, trial: Trial) -> Job:
        return Job(
            name=str(trial.run_dir),
            arguments=self._plan.arguments(trial),
            folder=trial.run_dir,
            seed=trial.seed,
        )

    def _ended(self, trial: Trial, event: Ended) -> Iterator[Result]:
        result = rundir.read_result(trial)
        if result is not None:
            name = self._plan.study.metric
            bad = cells.broken(result.record["metrics"], name)
            score = (
                f"{bad} is not finite" if bad else f"{name} {result.record['metrics'][name]:.4g}"
            )
            line = f"done {trial}: {score}, {event.wall_s:.1f} s"
            yield result
        elif event.exit_code == failures.STOPPED and event.failure is None:
            line = f"stopped {trial}"
        else:
            failure = event.failure or attempts.read_failure(trial.run_dir)
            reason = failure.error if failure else f"ended with exit code {event.exit_code}"
            line = f"failed {trial}: {reason} (log: {event.job.log})"
        self._view.ended(trial, line, ok=result is not None)

    def _interrupt(self, number: int, frame: object) -> None:
        """Handle a signal; printing waits, since the signal may have come amid a print."""
        if number == signal.SIGINT and not self.interrupted:
            self._news.append(self._launcher.drain())
        else:
            self._stopped = True
            self._news.append(self._launcher.stop())
        self.interrupted = True
