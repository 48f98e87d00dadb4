"""The study as Optuna sees it: a journal of the finished trials, rebuilt from them at any time.

Only a process that holds the study's lock writes it, and it decides nothing: whether a trial is
done, its run directory says.
"""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    distribution_to_json,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from attnlab.ablation import cells, rundir, validations
from attnlab.ablation.cells import Result, Trial
from attnlab.ablation.schema import Axis, Study

NAME = "optuna.journal"
"""The journal's name in the directory of a study."""

HEAD = 2
"""Lines of a journal before the first trial: the study, and the name of its metric."""

_Identity = tuple[str, int, str]
_Line = dict[str, Any]


class Journal:
    """Keeps Optuna's journal file equal to what has finished.

    A journal that holds anything else, is torn, or knows another grid (Optuna accepts no new
    choices) is replaced by a new one in one rename. Only results that it lacks are read.

    Args:
        study: Its axes are the parameters, its metric is the value.
        path: File of the journal; the caller alone may write it.
        trials: Every trial of the grid, finished or not.

    Attributes:
        held: Finished trials in the journal.
        added: How many of these were not in the file before.
        rebuilt: Whether the file was replaced.
    """

    def __init__(self, study: Study, path: Path, trials: Iterable[Trial]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = study
        self._path = path
        self._grid = {axis.name: _distribution(axis) for axis in study.axes}
        self._name = f"{study.name}/{path.parent.name}"
        remove_leftovers(path)
        finished = {
            (trial.cell.key, trial.seed, stamp): trial
            for trial in trials
            if (stamp := _stamp(trial.run_dir))
        }
        found = self._read()
        self.rebuilt = found is None or len(set(found) & finished.keys()) < len(found)
        self._held = set() if self.rebuilt else set(found or ())
        lines = self._lines(
            (identity, result)
            for identity, trial in finished.items()
            if identity not in self._held and (result := rundir.read_result(trial))
        )
        if self.rebuilt:
            _replace(path, lines)
        else:
            _append(path, lines[HEAD:])
        self.added = len(lines) - HEAD

    @property
    def held(self) -> int:
        """Finished trials in the journal."""
        return len(self._held)

    def add(self, result: Result) -> None:
        """Add a trial that has finished, unless the journal holds it already."""
        trial = result.trial
        identity = (trial.cell.key, trial.seed, _stamp(trial.run_dir))
        if identity not in self._held:
            _append(self._path, self._lines([(identity, result)])[HEAD:])
            self.added += 1

    def _lines(self, results: Iterable[tuple[_Identity, Result]]) -> list[_Line]:
        """Return a journal of `results`."""

        def trials() -> Iterator[FrozenTrial]:
            for identity, result in results:
                self._held.add(identity)
                yield self._trial(identity, result)

        return _lines(self._name, self._study, trials())

    def _read(self) -> list[_Identity] | None:
        """Return the trials that the journal holds, or None if it must be made anew.

        Optuna itself would need seconds to open thousands of trials.
        """
        grid = {name: distribution_to_json(each) for name, each in self._grid.items()}
        try:
            content = self._path.read_bytes()
            lines = [json.loads(line) for line in content.splitlines()]
            if not content.endswith(b"\n") or lines[0]["study_name"] != self._name:
                return None
            if any("study_name" in line for line in lines[1:]):
                return None
            trials = [line for line in lines if "distributions" in line]
            if any(trial["distributions"] != grid for trial in trials):
                return None
            return [_identity(trial["user_attrs"]) for trial in trials]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _trial(self, identity: _Identity, result: Result) -> FrozenTrial:
        metrics = result.record["metrics"]
        value = cells.metric(result, self._study)
        cell, seed, stamp = identity
        trial = optuna.create_trial(
            state=TrialState.FAIL if value is None else TrialState.COMPLETE,
            params=dict(result.trial.cell.labels),
            distributions=self._grid,
            value=value,
            intermediate_values=validations.read(
                result.trial.run_dir, validations.metric_of(self._study.metric)
            ),
            user_attrs={
                "cell": cell,
                "seed": seed,
                "stamp": stamp,
                "run_dir": str(result.trial.run_dir),
                "finished": result.record["finished"],
                **{tag: value for tag, value in metrics.items() if value is not None},
            },
        )
        trial.datetime_start = local_time(result.record["started"])
        trial.datetime_complete = local_time(result.record["finished"])
        return trial


class _Memory(BaseJournalBackend):
    """Takes what Optuna would write, to write it all at once."""

    def __init__(self) -> None:
        self.lines: list[_Line] = []

    def read_logs(self, log_number_from: int) -> Sequence[_Line]:
        return self.lines[log_number_from:]

    def append_logs(self, logs: list[_Line]) -> None:
        self.lines += logs


def storage(path: Path) -> JournalStorage:
    """Return the journal file at `path` as Optuna's storage."""
    return JournalStorage(JournalFileBackend(str(path)))


def rebuild(path: Path, name: str, about: Study, trials: Iterable[FrozenTrial]) -> None:
    """Replace the journal at `path` by one of `trials` in one rename."""
    _replace(path, _lines(name, about, trials))


def name_metric(study: optuna.Study, about: Study) -> None:
    """Let pages show what the value of a trial is."""
    with warnings.catch_warnings():  # in trial since optuna 3.2
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([about.metric])


def remove_leftovers(path: Path) -> None:
    """Remove what a process leaves that is killed while it writes the journal at `path`."""
    for leftover in (_lock(path), _new(path), _lock(_new(path))):
        leftover.unlink(missing_ok=True)


def local_time(text: str) -> datetime:
    """Return an ISO 8601 time as Optuna keeps it: local, without its zone."""
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None)


def _lines(name: str, about: Study, trials: Iterable[FrozenTrial]) -> list[_Line]:
    """Return a journal: `HEAD` lines of the study, then one for each of `trials`."""
    memory = _Memory()
    storage = JournalStorage(memory)
    study = optuna.create_study(storage=storage, study_name=name, direction=about.direction)
    name_metric(study, about)
    assert len(memory.lines) == HEAD
    study.add_trials(trials)
    return memory.lines


def _replace(path: Path, lines: list[_Line]) -> None:
    _append(_new(path), lines)
    _new(path).replace(path)


def _append(path: Path, lines: list[_Line]) -> None:
    if lines:
        JournalFileBackend(str(path)).append_logs(lines)


def _distribution(axis: Axis) -> BaseDistribution:
    """Return the labels of an axis as choices, which pages show in this order."""
    labels = [label for label, _ in axis.cells]
    return CategoricalDistribution(sorted(labels) if axis.numeric else labels)


def _identity(attributes: Mapping[str, Any]) -> _Identity:
    """Return what tells one run of one trial from all others."""
    return attributes["cell"], attributes["seed"], attributes["stamp"]


def _stamp(run_dir: Path) -> str:
    """Return what changes when a result is written again; empty where there is none."""
    try:
        status = (run_dir / "result.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return f"{status.st_mtime_ns}-{status.st_size}"


def _lock(path: Path) -> Path:
    """Return the lock file that Optuna's backend makes beside `path`."""
    return path.with_name(f"{path.name}.lock")


def _new(path: Path) -> Path:
    """Return the file in which the next journal is written."""
    return path.with_name(f"{path.name}.new")
