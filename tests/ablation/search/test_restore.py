"""The journal of a search is made anew from its run directories whenever it disagrees."""

import shutil
from pathlib import Path

import pytest
from optuna.trial import TrialState

from attnlab.ablation import journal
from attnlab.ablation.search.plan import SearchPlan
from attnlab.ablation.search.restore import restore
from tests.ablation.search.searching import (
    fail,
    finish,
    make_search,
    open_ledger,
    read_study,
    validate,
)


def states(found: SearchPlan) -> list[str]:
    return [trial.state.name for trial in read_study(found).trials]


@pytest.fixture
def found(tmp_path: Path) -> SearchPlan:
    """A search with a complete, a pruned, a failed and a running trial, of six in all."""
    found = make_search(tmp_path, trials=6)
    ledger = open_ledger(found)
    for number in range(4):
        asked = ledger.ask()
        assert asked is not None
        validate(asked.trial, [0.1, 0.2])
        if number < 2:
            finish(asked.trial, 0.2 + number / 100, pruned=number == 1)
        if number < 3:
            ledger.tell(asked, fail(asked.trial) if number == 2 else None)
    return found


def path_of(found: SearchPlan) -> Path:
    return found.plan.directory / journal.NAME


def test_a_journal_that_agrees_stays(found: SearchPlan) -> None:
    before = path_of(found).read_bytes()
    assert states(found) == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert not restore(found, path_of(found))
    assert path_of(found).read_bytes() == before


@pytest.mark.parametrize("damage", ["torn", "short", "garbled", "empty", "gone", "locked"])
def test_a_damaged_journal_is_made_anew(found: SearchPlan, damage: str) -> None:
    path = path_of(found)
    before = read_study(found).trials
    whole = path.read_bytes()
    if damage == "torn":
        path.write_bytes(whole[:-10])
    elif damage == "short":  # the last of it never reached the disk
        path.write_bytes(whole[: whole.index(b"\n") + 1])
    elif damage == "garbled":
        path.write_bytes(whole[:300] + b"\n" + whole[300:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gone":
        path.unlink()
    else:
        path.with_name(f"{path.name}.lock").symlink_to(path.name)
    assert restore(found, path) == (damage != "locked")
    after = read_study(found).trials
    for old, new in zip(before, after, strict=True):
        assert (new.state, new.params, new.values) == (old.state, old.params, old.values)
        assert new.intermediate_values in (old.intermediate_values, {1: 0.1, 2: 0.2})
        assert new.user_attrs["run_dir"] == old.user_attrs["run_dir"]
    assert not restore(found, path)


def test_a_deleted_run_is_run_again_with_its_values(found: SearchPlan) -> None:
    old = read_study(found).trials[0]
    shutil.rmtree(Path(old.user_attrs["run_dir"]).parent)
    assert restore(found, path_of(found))
    assert states(found) == ["RUNNING", "PRUNED", "FAIL", "RUNNING"]
    asked = open_ledger(found).ask()
    assert asked is not None
    assert (asked.number, dict(asked.trial.cell.labels)) == (0, old.params)
    assert str(asked.trial.run_dir) == old.user_attrs["run_dir"]


def test_a_trial_of_which_nothing_is_left_is_drawn_again(found: SearchPlan) -> None:
    trials = read_study(found).trials
    shutil.rmtree(Path(trials[1].user_attrs["run_dir"]).parent)
    path_of(found).unlink()
    restore(found, path_of(found))
    assert states(found) == ["COMPLETE", "WAITING", "FAIL", "RUNNING"]
    ledger = open_ledger(found)
    numbers = []
    while (asked := ledger.ask()) is not None:
        numbers.append(asked.number)
        assert not asked.trial.run_dir.exists() or asked.number == 3
    assert sorted(numbers) == [1, 3, 4, 5]
    assert len(read_study(found).trials) == 6


def test_results_count_whoever_wrote_them(found: SearchPlan) -> None:
    failed = Path(read_study(found).trials[2].user_attrs["run_dir"])
    shutil.copy(Path(read_study(found).trials[0].user_attrs["run_dir"]) / "result.json", failed)
    assert restore(found, path_of(found))
    trial = read_study(found).trials[2]
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.2)


def test_collecting_settles_what_nobody_told(found: SearchPlan) -> None:
    running = Path(read_study(found).trials[3].user_attrs["run_dir"])
    shutil.copy(Path(read_study(found).trials[0].user_attrs["run_dir"]) / "result.json", running)
    assert not restore(found, path_of(found))
    assert restore(found, path_of(found), settle=True)
    assert states(found)[3] == "COMPLETE"
    assert not restore(found, path_of(found), settle=True)
