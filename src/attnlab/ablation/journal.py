"""The study as Optuna sees it: a journal of the finished trials, rebuilt from them at any time.

Only a driver that holds the study's lock writes it, and it decides nothing: whether a trial is
done, its run directory says.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attnlab.ablation.cells import Result
from attnlab.ablation.schema import Study

if TYPE_CHECKING:  # imported late: it takes a quarter of a second, which `--help` must not pay
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

_Identity = tuple[str, int, str]


class Journal:
    """Keeps Optuna's journal file equal to a set of results.

    Args:
        study: Its axes are the parameters, its metric is the value.
        path: File of the journal; the caller alone may write it.
    """

    def __init__(self, study: Study, path: Path) -> None:
        self._study = study
        self._path = path
        self._open: optuna.Study | None = None

    def collect(self, results: Iterable[Result]) -> None:
        """Add every result that the journal does not hold yet.

        The first call takes all results there are: a journal that holds others, is torn, or knows
        another grid (Optuna accepts no new choices) is written anew and replaced by one rename.
        """
        trials = [self._trial(result) for result in results]
        if self._open is None:
            self._open = self._load({_identity(trial) for trial in trials})
            if self._open is None:
                self._rebuild(trials)
                self._open = self._load({_identity(trial) for trial in trials})
                assert self._open is not None
        seen = {_identity(trial) for trial in self._open.get_trials(deepcopy=False)}
        self._open.add_trials([trial for trial in trials if _identity(trial) not in seen])

    def _load(self, wanted: Collection[_Identity]) -> "optuna.Study | None":
        """Open the journal if it holds nothing but `wanted` trials of this grid."""
        _symlink_lock(self._path).unlink(missing_ok=True)  # left by a driver that was killed
        if not self._path.exists() or not self._path.read_bytes().endswith(b"\n"):
            return None
        try:
            study = self._connect(self._path)
            trials = study.get_trials(deepcopy=False)
            found = [_identity(trial) for trial in trials]
        except (KeyError, ValueError):  # torn, or not ours
            return None
        grid = self._distributions()
        if any(trial.distributions != grid for trial in trials):
            return None
        return study if len(found) == len(set(found) & set(wanted)) else None

    def _rebuild(self, trials: Iterable["FrozenTrial"]) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        for path in (new, _symlink_lock(new)):
            path.unlink(missing_ok=True)
        self._connect(new).add_trials(trials)
        new.replace(self._path)

    def _connect(self, path: Path) -> "optuna.Study":
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=path.parent.name,
            direction=self._study.direction,
            load_if_exists=True,
        )

    def _distributions(self) -> "dict[str, BaseDistribution]":
        from optuna.distributions import CategoricalDistribution

        return {
            axis.name: CategoricalDistribution([label for label, _ in axis.cells])
            for axis in self._study.axes
        }

    def _trial(self, result: Result) -> "FrozenTrial":
        import optuna

        trial = optuna.create_trial(
            params=dict(result.trial.cell.labels),
            distributions=self._distributions(),
            value=result.record["metrics"][self._study.metric],
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


def _identity(trial: "FrozenTrial") -> _Identity:
    """Return what tells one run of one trial from all others."""
    attributes = trial.user_attrs
    return attributes["cell"], attributes["seed"], attributes["finished"]


def _local_time(text: str) -> datetime:
    """Return an ISO 8601 time as Optuna keeps it: local, without its zone."""
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None)


def _symlink_lock(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
