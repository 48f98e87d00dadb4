"""The study as Optuna sees it: a journal of the finished trials, rebuilt from them at any time.

Only a driver that holds the study's lock writes it, and it decides nothing: whether a trial is
done, its run directory says.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from attnlab.ablation.cells import Result
from attnlab.ablation.schema import Study

_Identity = tuple[str, int, str]


class Journal:
    """Keeps Optuna's journal file equal to a set of results.

    Args:
        study: Its axes are the parameters, its metric is the value.
        path: File of the journal; the caller alone may write it.
        results: Every finished trial of the grid. A journal that holds others, is torn, or knows
            another grid (Optuna accepts no new choices) is replaced by a new one in one rename.
    """

    def __init__(self, study: Study, path: Path, results: Iterable[Result]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._metric = study.metric
        self._grid: dict[str, BaseDistribution] = {
            axis.name: CategoricalDistribution([label for label, _ in axis.cells])
            for axis in study.axes
        }
        trials = [self._trial(result) for result in results]
        new = path.with_name(f"{path.name}.new")
        for leftover in (_lock(path), new, _lock(new)):  # of a driver killed while it wrote
            leftover.unlink(missing_ok=True)
        found = self._load(path, {_identity(trial) for trial in trials})
        if found is None:
            name = f"{study.name}/{path.parent.name}"
            built = optuna.create_study(
                storage=_storage(new), study_name=name, direction=study.direction
            )
            built.add_trials(trials)
            new.replace(path)
            found = optuna.load_study(storage=_storage(path), study_name=name)
        self._study = found
        self._add(trials)

    def add(self, result: Result) -> None:
        """Add a trial that has finished, unless the journal holds it already."""
        self._add([self._trial(result)])

    def _add(self, trials: Iterable[FrozenTrial]) -> None:
        held = {_identity(trial) for trial in self._study.get_trials(deepcopy=False)}
        self._study.add_trials(trial for trial in trials if _identity(trial) not in held)

    def _load(self, path: Path, wanted: Collection[_Identity]) -> optuna.Study | None:
        """Open the journal if it holds nothing but `wanted` trials of this grid, each once."""
        if not path.exists() or not path.read_bytes().endswith(b"\n"):
            return None
        try:
            study = optuna.load_study(storage=_storage(path), study_name=None)
            trials = study.get_trials(deepcopy=False)
            held = [_identity(trial) for trial in trials]
        except (KeyError, ValueError):
            return None
        same_grid = all(trial.distributions == self._grid for trial in trials)
        return study if same_grid and len(held) == len(set(held) & set(wanted)) else None

    def _trial(self, result: Result) -> FrozenTrial:
        trial = optuna.create_trial(
            params=dict(result.trial.cell.labels),
            distributions=self._grid,
            value=result.record["metrics"][self._metric],
            user_attrs={
                "cell": result.trial.cell.key,
                "seed": result.trial.seed,
                "run_dir": str(result.trial.run_dir),
                "finished": result.record["finished"],
            },
        )
        trial.datetime_start = _local_time(result.record["started"])
        trial.datetime_complete = _local_time(result.record["finished"])
        return trial


def _identity(trial: FrozenTrial) -> _Identity:
    """Return what tells one run of one trial from all others."""
    attributes = trial.user_attrs
    return attributes["cell"], attributes["seed"], attributes["finished"]


def _storage(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def _lock(path: Path) -> Path:
    """Return the lock file that Optuna's backend makes beside `path`."""
    return path.with_name(f"{path.name}.lock")


def _local_time(text: str) -> datetime:
    """Return an ISO 8601 time as Optuna keeps it: local, without its zone."""
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None)
