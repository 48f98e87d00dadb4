"""Asking Optuna what to try and telling it what came of it, so that no trial is lost or doubled."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from attnlab.ablation import attempts, rundir
from attnlab.ablation import plan as planning
from attnlab.ablation.attempts import Failure
from attnlab.ablation.cells import Trial
from attnlab.ablation.search import space
from attnlab.ablation.search.plan import Record, SearchPlan, note
from attnlab.files import write_atomically

PRUNE = "PRUNE"
"""File in a run directory that tells its trial to end at the next validation."""
DRIVER = "driver"
"""Attribute of a trial of Optuna: the driver that runs it."""


class Drivers(Protocol):
    """What a driver knows of others that work on the same search."""

    name: str

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that one driver at a time is in."""

    def gone(self, name: str) -> bool:
        """Return whether the driver of that name has ended, however it did."""


class Alone:
    """The one driver of a search, which holds the lock of its directory."""

    name = "local"

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Return a context that nobody else could be in."""
        yield

    def gone(self, name: str) -> bool:
        """Return that all drivers before have ended."""
        return True


@dataclass
class Asked:
    """A trial that this driver runs."""

    number: int
    trial: Trial
    live: optuna.Trial
    reported: int = 0
    pruned: bool = False


class Ledger:
    """The trials of one search, which several drivers may share.

    Args:
        found: The search.
        study: It, as Optuna keeps it.
        drivers: This driver among those that work on it.
    """

    def __init__(self, found: SearchPlan, study: optuna.Study, drivers: Drivers) -> None:
        self._found = found
        self._study = study
        self._study.pruner = space.pruner(found.search)
        self._drivers = drivers
        self._mine: set[int] = set()

    def ask(self) -> Asked | None:
        """Return the next trial to run, or None when there are as many as the search is to have.

        What another driver left unfinished comes first, with the same values in the same directory.
        """
        with self._drivers.exclusive():
            while True:
                trials = self._study.get_trials(deepcopy=False)
                orphan = next((each for each in trials if self._is_orphan(each)), None)
                if orphan is not None:
                    # A driver may have been killed before it had asked for all values.
                    self._study.sampler = space.sampler(self._found.search, orphan.number)
                    asked = self._take(optuna.Trial(self._study, orphan._trial_id))
                    asked.reported = len(orphan.intermediate_values)
                    if not self.tell(asked, None):
                        return asked
                    continue
                waiting = [each.number for each in trials if each.state == TrialState.WAITING]
                if not waiting and len(trials) >= self._found.search.trials:
                    return None
                number = min(waiting, default=len(trials))
                self._study.sampler = space.sampler(self._found.search, number)
                return self._take(self._study.ask())

    def watch(self, asked: Asked) -> None:
        """Report what a trial has measured since, and end it if the pruner says so."""
        if self._report(asked) and not asked.pruned and asked.live.should_prune():
            asked.pruned = True
            write_atomically(asked.trial.run_dir / PRUNE, "", sync=False)

    def tell(self, asked: Asked, failure: Failure | None) -> TrialState | None:
        """Tell Optuna how a trial ended, and return that; None if it has not ended.

        Args:
            asked: The trial.
            failure: Why it has failed for good; None leaves that to its directory.

        Raises:
            UserError: It has not logged the metric that the search is about.
        """
        record = self._record(asked, failure)
        state, value = space.outcome(self._found.plan, record)
        if state == TrialState.RUNNING:
            return None
        if record.result is not None:
            planning.check_logged(self._found.plan, [record.result])
            metrics = record.result.record["metrics"]
            for tag in self._found.plan.study.extra_metrics:
                asked.live.set_user_attr(tag, metrics.get(tag))
        self._report(asked)
        if state == TrialState.FAIL and record.failure is not None:
            note(asked.number, asked.trial, given_up=record.given_up)
            asked.live.set_user_attr("error", record.failure.error)
        values = value if state == TrialState.COMPLETE else None
        self._study.tell(asked.number, values, state, skip_if_finished=True)
        self._mine.discard(asked.number)
        return state

    def value(self, asked: Asked) -> float | None:
        """Return the value of a trial that has ended."""
        return space.outcome(self._found.plan, self._record(asked, None))[1]

    def counts(self) -> dict[TrialState, int]:
        """Return how many trials of the whole search are in each state."""
        states = [trial.state for trial in self._study.get_trials(deepcopy=False)]
        return {state: states.count(state) for state in TrialState}

    def _report(self, asked: Asked) -> bool:
        """Report what a trial has measured since, and return whether that was anything."""
        values = space.reports(self._found.plan, self._record(asked, None))
        old, asked.reported = asked.reported, max(asked.reported, len(values))
        for index in range(old, len(values)):
            asked.live.report(values[index], index + 1)
        return asked.reported > old

    def _is_orphan(self, trial: FrozenTrial) -> bool:
        if trial.state != TrialState.RUNNING or trial.number in self._mine:
            return False
        driver = trial.user_attrs.get(DRIVER)
        return driver is None or self._drivers.gone(driver)

    def _take(self, live: optuna.Trial) -> Asked:
        params = {each.name: space.suggest(live, each) for each in self._found.search.space}
        trial = self._found.trial(live.number, params)
        note(live.number, trial)
        for name, value in {
            "run_dir": str(trial.run_dir),
            "cell": trial.cell.key,
            "seed": trial.seed,
            DRIVER: self._drivers.name,
        }.items():
            live.set_user_attr(name, value)
        self._mine.add(live.number)
        return Asked(live.number, trial, live)

    def _record(self, asked: Asked, failure: Failure | None) -> Record:
        trial = asked.trial
        return Record(
            asked.number,
            trial.cell.labels,
            trial,
            rundir.read_result(trial),
            failure or attempts.read_failure(trial.run_dir),
            given_up=failure is not None,
        )
