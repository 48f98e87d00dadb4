"""The journal of a search, brought back into agreement with its run directories."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from attnlab.ablation import journal
from attnlab.ablation.search import space
from attnlab.ablation.search.plan import Record, SearchPlan, records

UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


def restore(found: SearchPlan, path: Path, settle: bool = False) -> bool:
    """Make the journal at `path` anew if it is torn, foreign, or at odds with the directories.

    A trial whose directory was deleted after it had finished is run again with the same values; one
    of which nothing at all is known is drawn again. The caller alone may write the journal.

    Args:
        found: The search.
        path: Its journal.
        settle: Whether a trial that has ended, and not been told of, counts as at odds, too.

    Returns:
        Whether the journal was made anew.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.remove_leftovers(path)
    held = _load(found, path)
    known = {record.number: record for record in records(found)}
    if held is not None and _agree(found, held, known, settle):
        return False
    held = held or []
    count = max([len(held), *(number + 1 for number in known)])
    trials = (
        frozen(found, known[number]) if number in known else _without_directory(held[number:])
        for number in range(count)
    )
    journal.rebuild(path, found.name, found.search.study, trials)
    return True


def frozen(found: SearchPlan, record: Record) -> FrozenTrial:
    """Return the trial of Optuna that a run directory tells of."""
    state, value = space.outcome(found.plan, record)
    attributes = {
        "run_dir": str(record.trial.run_dir),
        "cell": record.trial.cell.key,
        "seed": record.trial.seed,
    }
    if record.result is not None:
        metrics = record.result.record["metrics"]
        attributes |= {tag: metrics.get(tag) for tag in found.search.study.extra_metrics}
    elif state == TrialState.FAIL and record.failure is not None:
        attributes["error"] = record.failure.error
    trial = optuna.create_trial(
        state=state,
        params=dict(record.params),
        distributions={each.name: space.distribution(each) for each in found.search.space},
        value=value,
        intermediate_values=dict(enumerate(space.reports(found.plan, record), 1)),
        user_attrs=attributes,
    )
    if record.result is not None:
        trial.datetime_start = journal.local_time(record.result.record["started"])
        trial.datetime_complete = journal.local_time(record.result.record["finished"])
    return trial


def _load(found: SearchPlan, path: Path) -> list[FrozenTrial] | None:
    """Return the trials of a journal, or None if it is none of this search."""
    if not path.exists() or not path.read_bytes().endswith(b"\n"):
        return None
    try:
        study = optuna.load_study(storage=journal.storage(path), study_name=found.name)
        return study.get_trials(deepcopy=False)
    except (KeyError, ValueError, TypeError, AssertionError):
        return None


def _agree(
    found: SearchPlan, held: Sequence[FrozenTrial], known: Mapping[int, Record], settle: bool
) -> bool:
    """Return whether the journal has no trial that contradicts its directory."""
    if any(number >= len(held) for number in known):
        return False
    for trial in held:
        record = known.get(trial.number)
        if record is None:
            agrees = trial.state in (TrialState.FAIL, *UNFINISHED)
        elif trial.state in UNFINISHED:
            agrees = not settle or space.outcome(found.plan, record)[0] == TrialState.RUNNING
        else:
            left = TrialState.FAIL  # whatever its directory says, it was not run again
            if record.result is not None:
                left = space.outcome(found.plan, record)[0]
            agrees = trial.state == left and trial.params == dict(record.params)
        if not agrees:
            return False
    return True


def _without_directory(held: Sequence[FrozenTrial]) -> FrozenTrial:
    """Return what stands for the first of `held`, if there is any, whose directory is gone."""
    if not held:
        return optuna.create_trial(state=TrialState.WAITING)
    old = held[0]
    if old.state in (TrialState.FAIL, TrialState.WAITING):
        return old
    return optuna.create_trial(
        state=TrialState.RUNNING, params=old.params, distributions=old.distributions
    )
