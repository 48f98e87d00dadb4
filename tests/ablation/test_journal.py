"""Optuna's journal mirrors the finished trials: each once, whatever happened to the file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from attnlab.ablation import cells
from attnlab.ablation.cells import Result
from attnlab.ablation.journal import Journal
from attnlab.ablation.schema import Study
from tests.ablation.fake_trial import record
from tests.ablation.test_cells import make_profile, make_study, numbers


def results_of(study: Study) -> list[Result]:
    grid = cells.expand(study, make_profile())
    return [
        Result(trial, record(trial.seed / 10 + index, trial.seed, dict(trial.cell.labels)))
        for index, trial in enumerate(cells.trials(grid, study.seeds, Path("runs")))
    ]


def storage(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def trials_in(path: Path) -> list[tuple[dict[str, Any], float, int]]:
    """Return parameters, value and seed of each trial, as a stranger reads the file."""
    found = optuna.load_study(study_name=None, storage=storage(path)).trials
    return [(trial.params, trial.value or 0.0, trial.user_attrs["seed"]) for trial in found]


def expected(results: Iterable[Result]) -> list[tuple[dict[str, Any], float, int]]:
    return [
        (dict(r.trial.cell.labels), r.record["metrics"]["test/top1"], r.trial.seed) for r in results
    ]


def test_each_result_becomes_one_trial_however_often_it_is_told(tmp_path: Path) -> None:
    study = make_study()
    results = results_of(study)
    path = tmp_path / "optuna.journal"
    journal = Journal(study, path, results[:1])
    for result in results[:3]:
        journal.add(result)
    written = path.read_bytes()
    Journal(study, path, results[:3])
    assert path.read_bytes() == written
    Journal(study, path, results)
    assert path.read_bytes().startswith(written)
    assert trials_in(path) == expected(results)


def test_a_trial_of_optuna_leads_back_to_its_run(tmp_path: Path) -> None:
    results = results_of(make_study())
    Journal(make_study(), tmp_path / "j", results)
    trial = optuna.load_study(
        study_name="s/" + tmp_path.name, storage=storage(tmp_path / "j")
    ).trials[1]
    assert trial.user_attrs["run_dir"] == str(results[1].trial.run_dir)
    assert trial.user_attrs["cell"] == results[1].trial.cell.key
    assert trial.duration is not None
    assert trial.duration.total_seconds() == 10.0


def test_a_grown_grid_makes_the_journal_anew(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    Journal(make_study(), path, results_of(make_study()))
    grown = make_study(numbers("num_rpes", "model.num_rpes", 0, 1, 4))
    Journal(grown, path, results_of(grown))
    assert trials_in(path) == expected(results_of(grown))


def test_what_is_no_result_any_more_leaves_the_journal(tmp_path: Path) -> None:
    study = make_study()
    results = results_of(study)
    path = tmp_path / "optuna.journal"
    Journal(study, path, results)
    again = Result(results[0].trial, {**results[0].record, "finished": "2026-02-02T00:00:00+00:00"})
    Journal(study, path, [again, *results[2:]])
    assert trials_in(path) == expected([again, *results[2:]])


@pytest.mark.parametrize("damage", ["torn", "garbled", "empty", "locked"])
def test_a_damaged_journal_is_mended(tmp_path: Path, damage: str) -> None:
    study = make_study()
    results = results_of(study)
    path = tmp_path / "optuna.journal"
    Journal(study, path, results[:3])
    whole = path.read_bytes()
    if damage == "torn":
        path.write_bytes(whole[:-20])
    elif damage == "garbled":
        path.write_bytes(whole[:200] + b"\n" + whole[200:])
    elif damage == "empty":
        path.write_bytes(b"")
    else:  # as a driver leaves it that is killed while it writes
        path.with_name("optuna.journal.lock").symlink_to("optuna.journal")
        path.with_name("optuna.journal.new").write_bytes(whole[:100])
    Journal(study, path, results)
    assert trials_in(path) == expected(results)
    assert [each.name for each in tmp_path.iterdir()] == ["optuna.journal"]
