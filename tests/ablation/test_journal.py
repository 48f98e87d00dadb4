"""Optuna's journal mirrors the finished trials: each once, whatever happened to the file."""

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
import pytest

from attnlab.ablation import cells, rundir
from attnlab.ablation.cells import Result, Trial
from attnlab.ablation.journal import Journal, storage
from attnlab.ablation.schema import Study
from tests.ablation.fake_trial import record
from tests.ablation.simulated import simulate
from tests.ablation.test_cells import make_profile, make_study, numbers


def trials_of(study: Study, root: Path) -> list[Trial]:
    grid = cells.expand(study, make_profile())
    return list(cells.trials(grid, study.seeds, root))


def finish(trials: Iterable[Trial], **changes: Any) -> None:
    for trial in trials:
        value = trial.seed / 10 + int(trial.cell.labels["num_rpes"])
        content = {**record(value, trial.seed, dict(trial.cell.labels)), **changes}
        rundir.write_json(trial.run_dir / "result.json", content)


def result_of(trial: Trial) -> Result:
    result = rundir.read_result(trial)
    assert result is not None
    return result


def trials_in(path: Path) -> list[tuple[dict[str, Any], float | None, int]]:
    """Return parameters, value and seed of each trial, as a stranger reads the file."""
    found = optuna.load_study(study_name=None, storage=storage(path)).trials
    return [(trial.params, trial.value, trial.user_attrs["seed"]) for trial in found]


def expected(trials: Iterable[Trial]) -> list[tuple[dict[str, Any], float | None, int]]:
    results = map(result_of, trials)
    return [
        (dict(r.trial.cell.labels), r.record["metrics"]["test/top1"], r.trial.seed) for r in results
    ]


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def trials(study: Study, tmp_path: Path) -> list[Trial]:
    """The trials of a study with nothing finished."""
    return trials_of(study, tmp_path / "runs")


def test_each_result_becomes_one_trial_however_often_it_is_told(
    study: Study, trials: list[Trial], tmp_path: Path
) -> None:
    path = tmp_path / "optuna.journal"
    finish(trials[:1])
    journal = Journal(study, path, trials)
    assert (journal.held, journal.added, journal.rebuilt) == (1, 1, True)
    for trial in (trials[0], trials[1], trials[2], trials[1]):
        finish([trial] if not (trial.run_dir / "result.json").exists() else [])
        journal.add(result_of(trial))
    assert (journal.held, journal.added) == (3, 3)
    written = path.read_bytes()
    Journal(study, path, trials)
    assert path.read_bytes() == written
    finish(trials[3:])
    journal = Journal(study, path, trials)
    assert (journal.held, journal.added, journal.rebuilt) == (4, 1, False)
    assert path.read_bytes().startswith(written)
    assert trials_in(path) == expected(trials)


def test_a_trial_of_optuna_leads_back_to_its_run(
    study: Study, trials: list[Trial], tmp_path: Path
) -> None:
    finish(trials)
    lines = [{"step": 5, "val/top1": 0.25}, {"step": 10, "val/top1": 0.5, "val/loss": 1.0}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (trials[1].run_dir / "metrics.jsonl").write_text(text + '{"step": 15, "val/to')
    Journal(study, tmp_path / "j", trials)
    found = optuna.load_study(study_name=f"s/{tmp_path.name}", storage=storage(tmp_path / "j"))
    trial = found.trials[1]
    assert trial.user_attrs["run_dir"] == str(trials[1].run_dir)
    assert trial.user_attrs["cell"] == trials[1].cell.key
    assert trial.user_attrs["test/top1"] == 4.0
    assert trial.intermediate_values == {5: 0.25, 10: 0.5}
    assert found.trials[0].intermediate_values == {}
    assert trial.duration is not None
    assert trial.duration.total_seconds() == 10.0


def test_a_metric_that_is_not_finite_is_a_failure_without_value(
    study: Study, trials: list[Trial], tmp_path: Path
) -> None:
    finish(trials[:1])
    finish(trials[1:2], metrics={"test/top1": 0.1, "test/loss": None})
    Journal(study, tmp_path / "j", trials)
    found = optuna.load_study(study_name=None, storage=storage(tmp_path / "j"))
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "FAIL"]
    assert found.trials[1].value is None
    assert Journal(study, tmp_path / "j", trials).added == 0


def test_numbers_are_choices_in_their_order(tmp_path: Path) -> None:
    study = make_study(numbers("num_rpes", "model.num_rpes", 4, 0, 1))
    trials = trials_of(study, tmp_path)
    finish(trials)
    Journal(study, tmp_path / "j", trials)
    found = optuna.load_study(study_name=None, storage=storage(tmp_path / "j"))
    assert found.trials[0].distributions["num_rpes"].choices == (0, 1, 4)
    assert found.trials[0].params == {"num_rpes": 4}


def test_a_grown_grid_makes_the_journal_anew(
    study: Study, trials: list[Trial], tmp_path: Path
) -> None:
    path = tmp_path / "optuna.journal"
    finish(trials)
    Journal(study, path, trials)
    grown = make_study(numbers("num_rpes", "model.num_rpes", 0, 1, 4))
    grown_trials = trials_of(grown, tmp_path / "runs")
    assert Journal(grown, path, grown_trials).rebuilt
    assert trials_in(path) == expected(t for t in grown_trials if t.cell.labels["num_rpes"] != 1)


@pytest.mark.parametrize("change", ["again", "deleted"])
def test_what_is_no_result_any_more_leaves_the_journal(
    study: Study, trials: list[Trial], tmp_path: Path, change: str
) -> None:
    path = tmp_path / "optuna.journal"
    finish(trials)
    Journal(study, path, trials)
    if change == "again":
        finish(trials[:1], metrics={"test/top1": 7.5})
        os.utime(trials[0].run_dir / "result.json", ns=(1, 1))
    else:
        shutil.rmtree(trials[0].run_dir)
        trials = trials[1:]
    assert Journal(study, path, trials_of(study, tmp_path / "runs")).rebuilt
    assert trials_in(path) == expected(trials)


@pytest.mark.parametrize("damage", ["torn", "garbled", "empty", "foreign", "twice", "locked"])
def test_a_damaged_journal_is_mended(
    study: Study, trials: list[Trial], tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "optuna.journal"
    finish(trials[:3])
    Journal(study, path, trials)
    finish(trials[3:])
    whole = path.read_bytes()
    if damage == "torn":
        path.write_bytes(whole[:-20])
    elif damage == "garbled":
        path.write_bytes(whole[:200] + b"\n" + whole[200:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        optuna.create_study(storage=storage(path), study_name="another")
    elif damage == "twice":
        path.write_bytes(whole + whole.splitlines(keepends=True)[-1])
    else:  # as a driver leaves it that is killed while it writes
        path.with_name("optuna.journal.lock").symlink_to("optuna.journal")
        path.with_name("optuna.journal.new").write_bytes(whole[:100])
    assert Journal(study, path, trials).rebuilt == (damage != "locked")
    assert trials_in(path) == expected(trials)
    assert {each.name for each in tmp_path.iterdir()} == {"optuna.journal", "runs"}


def test_the_journal_keeps_up_with_thousands_of_trials(tmp_path: Path) -> None:
    plan = simulate(tmp_path, (10, 20), 5, lines=3)  # a tenth of what it is made for
    path = tmp_path / "j"
    started = time.process_time()
    Journal(plan.study, path, plan.trials)
    assert time.process_time() - started < 6.0
    kept = [trial for trial in plan.trials if trial is not plan.trials[7]]
    less = dataclasses.replace(plan, trials=tuple(kept))
    Journal(plan.study, path, less.trials)
    started = time.process_time()
    journal = Journal(plan.study, path, plan.trials)
    assert time.process_time() - started < 0.2
    assert (journal.added, journal.held, journal.rebuilt) == (1, 1000, False)
    assert len(trials_in(path)) == 1000
