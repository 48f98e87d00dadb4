"""No trial of a search is lost or doubled, whatever becomes of the drivers that run it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from attnlab.ablation import journal
from attnlab.ablation.attempts import Kind
from attnlab.ablation.errors import UserError
from attnlab.ablation.search.ledger import Asked, Ledger
from tests.ablation.search.searching import (
    fail,
    finish,
    make_search,
    open_ledger,
    open_study,
    read_study,
    validate,
)


def ask(ledger: Ledger) -> Asked:
    asked = ledger.ask()
    assert asked is not None
    return asked


class Several:
    """One of several drivers, of which some have ended."""

    def __init__(self, name: str, *ended: str) -> None:
        self.name = name
        self.ended = ended

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        yield

    def gone(self, name: str) -> bool:
        return name in self.ended


def test_there_are_as_many_trials_as_are_wanted_each_in_its_directory(tmp_path: Path) -> None:
    found = make_search(tmp_path, trials=3)
    ledger = open_ledger(found)
    asked = [ask(ledger) for _ in range(3)]
    assert ledger.ask() is None
    for number, each in enumerate(asked):
        labels = each.trial.cell.labels
        assert each.number == number
        assert each.trial.run_dir.parent.name == f"trial{number}-{each.trial.cell.key}"
        assert each.trial.run_dir.name == "seed0"
        assert each.trial.cell.overrides == {f"model.{key}": labels[key] for key in labels}
        assert labels["value"] in range(10)
        assert 1e-4 <= float(labels["lr"]) <= 1e-2
        finish(each.trial, number / 10)
        assert ledger.tell(each, None) == TrialState.COMPLETE
    assert ledger.ask() is None
    trials = read_study(found).trials
    assert [trial.value for trial in trials] == [0.0, 0.1, 0.2]
    assert [trial.params for trial in trials] == [dict(each.trial.cell.labels) for each in asked]
    assert trials[2].user_attrs["test/top1"] == 0.2
    assert trials[2].user_attrs["run_dir"] == str(asked[2].trial.run_dir)


def test_more_trials_may_be_wanted_later(tmp_path: Path) -> None:
    for trials in (1, 3):
        ledger = open_ledger(make_search(tmp_path, trials=trials))
        while (asked := ledger.ask()) is not None:
            finish(asked.trial)
            ledger.tell(asked, None)
        assert ledger.counts()[TrialState.COMPLETE] == trials


def test_a_killed_driver_leaves_trials_that_the_next_one_goes_on_with(tmp_path: Path) -> None:
    found = make_search(tmp_path, trials=4)
    first = open_ledger(found)
    done, running, told_late = ask(first), ask(first), ask(first)
    finish(done.trial)
    first.tell(done, None)
    finish(told_late.trial, 0.75)  # and the driver was killed before it could tell
    second = open_ledger(found)
    again = ask(second)
    assert (again.number, again.trial) == (running.number, running.trial)
    new = ask(second)
    assert new.number == 3
    assert second.ask() is None
    assert [trial.value for trial in read_study(found).trials] == [0.5, None, 0.75, None]


def test_a_driver_killed_while_it_asked_leaves_no_half_trial(tmp_path: Path) -> None:
    found = make_search(tmp_path, trials=2)
    whole = ask(open_ledger(found)).trial.cell.labels
    (tmp_path / "half").mkdir()
    half = make_search(tmp_path / "half", trials=2)
    open_study(half).ask()  # and the driver was killed before it knew a value
    asked = ask(open_ledger(half))
    assert asked.number == 0
    assert asked.trial.cell.labels == whole
    assert read_study(half).trials[0].params == whole


def test_what_a_search_tries_does_not_depend_on_when_it_was_interrupted(tmp_path: Path) -> None:
    tried = []
    for name, starts in (("once", 1), ("often", 6)):
        (tmp_path / name).mkdir()
        found = make_search(tmp_path / name, trials=6, seed=3)
        for _ in range(starts):
            ledger = open_ledger(found)
            for _ in range(6 // starts):
                asked = ask(ledger)
                finish(asked.trial)
                ledger.tell(asked, None)
        tried.append([trial.params for trial in read_study(found).trials])
    assert tried[0] == tried[1]
    assert len({str(params) for params in tried[0]}) == 6


def test_failed_trials_count_and_the_search_goes_on(tmp_path: Path) -> None:
    found = make_search(tmp_path, trials=3)
    ledger = open_ledger(found)
    blown, nan = ask(ledger), ask(ledger)
    assert ledger.tell(blown, fail(blown.trial, Kind.TRANSIENT)) == TrialState.FAIL
    finish(nan.trial, None)
    assert ledger.tell(nan, None) == TrialState.FAIL
    assert ask(ledger).number == 2
    (found.plan.directory / journal.NAME).unlink()
    assert ask(open_ledger(found)).number == 2  # the third goes on, the failed do not
    trials = read_study(found).trials
    assert [trial.state.name for trial in trials] == ["FAIL", "FAIL", "RUNNING"]
    assert trials[0].user_attrs["error"] == "it blew up"


def test_a_trial_that_was_stopped_is_not_told_of(tmp_path: Path) -> None:
    ledger = open_ledger(make_search(tmp_path, trials=1))
    asked = ask(ledger)
    assert ledger.tell(asked, None) is None
    assert ledger.counts()[TrialState.RUNNING] == 1


def test_a_metric_that_is_not_logged_ends_the_search(tmp_path: Path) -> None:
    ledger = open_ledger(make_search(tmp_path, trials=1))
    asked = ask(ledger)
    finish(asked.trial, metrics={"test/top1": 0.5})
    with pytest.raises(UserError, match=r"metric 'val/top1' was not logged.*logged: test/top1"):
        ledger.tell(asked, None)


def test_a_bad_trial_is_given_up_by_the_file_it_looks_for(tmp_path: Path) -> None:
    found = make_search(tmp_path, trials=7, pruner="median")
    ledger = open_ledger(found)
    for _ in range(5):  # as many as the pruner waits for
        asked = ask(ledger)
        validate(asked.trial, [0.5, 0.6, 0.7])
        finish(asked.trial, 0.7)
        ledger.tell(asked, None)
    good, bad = ask(ledger), ask(ledger)
    for values, pruned in (([0.55], False), ([0.55, 0.4], True)):
        for asked in (good, bad):
            validate(asked.trial, values if asked is bad else [0.9] * len(values))
            ledger.watch(asked)
        assert (bad.trial.run_dir / "PRUNE").exists() == pruned
    assert not (good.trial.run_dir / "PRUNE").exists()
    finish(bad.trial, 0.4, pruned=True, metrics={"val/top1": 0.4})
    assert ledger.tell(bad, None) == TrialState.PRUNED
    trial = read_study(found).trials[bad.number]
    assert (trial.state, trial.value) == (TrialState.PRUNED, 0.4)
    assert trial.intermediate_values == {1: 0.55, 2: 0.4}


def test_a_trial_that_goes_on_reports_each_validation_once(tmp_path: Path) -> None:
    found = make_search(tmp_path, trials=1, pruner="median")
    ledger = open_ledger(found)
    asked = ask(ledger)
    validate(asked.trial, [0.1, 0.2])
    ledger.watch(asked)
    again = ask(second := open_ledger(found))
    validate(again.trial, [0.1, 0.2, 0.3])
    second.watch(again)  # optuna warns of a repeated report, and warnings are errors
    assert read_study(found).trials[0].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}


def test_drivers_share_a_search_and_take_up_what_the_dead_leave(tmp_path: Path) -> None:
    found = make_search(tmp_path, trials=3)
    one = open_ledger(found, Several("one"))
    first = ask(one)
    two = Ledger(found, read_study(found), Several("two"))
    assert ask(two).number == 1
    three = Ledger(found, read_study(found), Several("three", "one"))
    assert ask(three).number == first.number
    assert ask(three).number == 2
    assert three.ask() is None
