"""Searches as users run them: drivers as processes of their own, with trials that train nothing."""

import copy
import csv
import os
import signal
from typing import Any

import optuna
import pytest

from attnlab.ablation import journal
from tests.ablation.conftest import Lab, wait_until

SPACE: dict[str, dict[str, Any]] = {
    "value": {"key": "model.value", "low": 0, "high": 9},
    "lr": {"key": "model.lr", "low": 1e-4, "high": 1e-2, "log": True},
}


@pytest.fixture
def search(lab: Lab) -> Lab:
    """A lab whose study is a search of six trials."""
    lab.stanzas["studies"]["value"] = {
        "question": "Which value?",
        "base": "fake",
        "space": copy.deepcopy(SPACE),
        "search": {"trials": 6, "sampler": "random"},
        "metric": "val/top1",
        "extra_metrics": ["test/top1"],
    }
    lab.study = lab.stanzas["studies"]["value"]
    lab.behave("val")
    return lab


def trials(lab: Lab) -> list[optuna.trial.FrozenTrial]:
    storage = journal.storage(lab.directory / journal.NAME)
    return optuna.load_study(study_name="value/laptop", storage=storage).trials


def values(lab: Lab) -> list[Any]:
    """Return what the sampler draws, as trainings have it."""
    return [str(trial.params["value"]) for trial in trials(lab)]


def trained(lab: Lab) -> list[str]:
    return [line.split()[0] for line in lab.trainings()]


def test_a_search_runs_each_trial_once_and_reports(search: Lab) -> None:
    code, out, err = search.drive()
    assert (code, err) == (0, "")
    assert "search value, profile laptop: 6 trials, sampler random, 0 done, 2 at a time" in out
    assert sorted(trained(search)) == sorted(values(search))
    best = max(trials(search), key=lambda trial: trial.value or 0.0)
    assert f"Best: trial {best.number} with value = {best.params['value']}, lr = " in out
    assert "n = 1" in out
    assert "| lr | " in out  # an importance
    with (search.directory / "report/trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete"] * 6
    assert [float(row["test/top1"]) for row in rows] == [trial.value for trial in trials(search)]
    assert (search.directory / "report/history.png").stat().st_size > 1000
    dashboard = "dashboard: tensorboard --logdir runs/ablations/value/laptop"
    assert out.splitlines()[-2:] == [
        "report: runs/ablations/value/laptop/report/report.md",
        dashboard,
    ]
    code, out, _ = search.command("reproduce", "trial 2", "--study", "value")
    assert code == 0
    assert f"--model.value={trials(search)[2].params['value']} " in out
    code, again, _ = search.drive()
    assert code == 0
    assert "6 done" in again
    assert f"Best: trial {best.number}" in again
    assert len(search.trainings()) == 6
    search.study["space"]["value"]["high"] = 8
    code, _, err = search.call()
    assert code == 2
    assert "holds runs of another stanza (space value was" in err


def test_a_search_goes_on_after_any_end_with_none_lost_and_none_twice(search: Lab) -> None:
    search.behave(" ".join(["val", *(f"wait{value}" for value in range(10))]))
    driver = search.start()
    wait_until(lambda: len(search.trainings()) == 2)
    driver.send_signal(signal.SIGTERM)
    code, out, _ = search.finish(driver)
    assert code == 130
    assert "6 of 6 trials are missing; the same command runs them" in out
    started = values(search)
    assert sorted(started) == sorted(trained(search))
    driver = search.start()
    wait_until(lambda: len(search.trainings()) == 4)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert values(search) == started
    search.behave("val")
    code, _, err = search.drive()
    assert (code, err) == (0, "")
    found = trials(search)
    assert [trial.number for trial in found] == [0, 1, 2, 3, 4, 5]
    assert values(search)[:2] == started
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in found)
    assert len({trial.user_attrs["run_dir"] for trial in found}) == 6
    assert len(search.trainings()) == 2 + 2 + 6  # the two begun are run again, in their places
    assert len(list(search.directory.glob("trial*"))) == 6


def test_failed_trials_are_told_and_killed_ones_tried_again(search: Lab) -> None:
    search.study["search"] |= {"trials": 12}
    search.behave("val raise5 kill7 null3")
    code, out, _ = search.drive()
    assert code == 0
    states = {str(trial.params["value"]): trial.state.name for trial in trials(search)}
    drawn = values(search)
    assert {"5", "7"} <= set(drawn), drawn  # or else nothing is tested
    for value in drawn:
        assert states[value] == ("FAIL" if value in "357" else "COMPLETE")
        times = trained(search).count(value)
        assert times == drawn.count(value) * (3 if value == "7" else 1)
    assert "value 5 blew up" in out
    with (search.directory / "report/trials.csv").open(newline="") as file:
        errors = {row["value"]: row["error"] for row in csv.DictReader(file)}
    assert errors["7"] == "killed by SIGKILL"
    assert errors["5"] == "RuntimeError: value 5 blew up"


def test_bad_trials_are_pruned_on_their_way(search: Lab) -> None:
    search.study["search"] |= {"trials": 10, "pruner": "median"}
    search.behave("validate")
    code, out, _ = search.drive("--workers", "5")
    assert code == 0
    found = trials(search)
    pruned = [trial for trial in found if trial.state.name == "PRUNED"]
    assert pruned
    assert out.count("pruned trial") == len(pruned)
    assert f"{10 - len(pruned)} complete, {len(pruned)} pruned" in out
    middle = sorted(trial.params["value"] for trial in found[:5])[2]
    for trial in pruned:
        assert trial.number >= 5
        assert trial.params["value"] < middle
        run_dir = search.root / trial.user_attrs["run_dir"]
        assert (run_dir / "PRUNE").exists()
        assert trial.value == max(trial.intermediate_values.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--storage", "sqlite:///x.db"), "--storage takes a database of PostgreSQL"),
        (("--storage", "x"), "--storage takes postgresql://USER@HOST/DATABASE, not 'x'"),
        (("--storage", "postgresql://127.0.0.1:1/x"), "Connection refused"),
        (("--launcher", "slurm"), "start one driver on each of several nodes"),
        (("--set", "model.value=3"), "study value itself sets 'model.value'"),
        (("--report",), "no trial has run yet"),
        (("--retry", "failed"), "--retry is for grids; study value is a search"),
        (("--dry-run", "--probe"), "--probe is for grids; study value is a search"),
    ],
)
def test_bad_options_are_one_line(search: Lab, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = search.call(*arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(search.directory.glob("*"))


def test_a_dry_run_shows_both_ends_of_the_space_and_the_cost(search: Lab) -> None:
    search.stanzas["profiles"]["laptop"]["gpus_per_cell"] = 2
    code, out, _ = search.call("--dry-run", "--workers", "4")
    assert code == 0
    assert " --model.value=0 --model.lr=0.0001" in out
    assert " --model.value=9 --model.lr=0.01" in out
    assert out.splitlines()[-1] == (
        "to run: 6 trials, 18.0 min one by one, 6.0 min with 4 at a time, 0.6 GPU-hours (error "
        "unknown; from profile laptop)"
    )
    assert not search.directory.exists()


def test_a_grid_has_no_storage(lab: Lab) -> None:
    code, _, err = lab.call("--storage", "postgresql://h/d")
    assert code == 2
    assert "--storage is for searches; study value is a grid" in err


def test_what_cannot_be_is_found_before_anything_runs(search: Lab) -> None:
    search.study["space"]["value"] = {"key": "model.value", "values": ["1", "x", "2"]}
    code, _, err = search.drive()
    assert code == 2
    assert "expected an int, got 'x'" in err
    assert not search.trainings()
    assert not (search.directory / "study.json").exists()
