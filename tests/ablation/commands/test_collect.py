"""`collect` brings the journal up to date from the run directories alone."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnlab.ablation import rundir
from attnlab.ablation.cli import main
from tests.ablation.conftest import Lab
from tests.ablation.simulated import simulate
from tests.ablation.test_journal import trials_in


def collect(root: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return main(["collect", "--study", "simulated"])


def test_collect_rebuilds_adds_and_rests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = simulate(tmp_path, (4,), 2, keep=lambda trial: trial.seed == 0)
    journal = plan.directory / "optuna.journal"
    name = journal.relative_to(tmp_path)
    assert collect(tmp_path) == 0
    assert capsys.readouterr().out == f"{name}: 4 trials, 4 of them new, made anew\n"
    simulate(tmp_path, (4,), 2, keep=lambda trial: trial.seed == 1)
    assert collect(tmp_path) == 0
    assert capsys.readouterr().out == f"{name}: 8 trials, 4 of them new\n"
    assert collect(tmp_path) == 0
    assert capsys.readouterr().out == f"{name}: 8 trials, 0 of them new\n"
    shutil.rmtree(plan.trials[0].run_dir)
    assert collect(tmp_path) == 0
    assert capsys.readouterr().out == f"{name}: 7 trials, 7 of them new, made anew\n"
    assert len(trials_in(journal)) == 7


def test_collect_leaves_the_journal_to_a_driver_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = simulate(tmp_path, (4,), 2)
    with rundir.locked(plan.directory / rundir.LOCK, "locked"):
        assert collect(tmp_path) == 2
    assert "its journal is kept by process" in capsys.readouterr().err
    assert not (plan.directory / "optuna.journal").exists()


def test_collect_without_a_study_directory_says_so(lab: Lab) -> None:
    lab.write()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lab.root)
        assert main(["collect", "--study", "value"]) == 2
    assert "nothing to collect" in lab.capsys.readouterr().err
    assert not lab.directory.exists()


def test_collect_of_ten_new_among_thousands_is_quick(tmp_path: Path) -> None:
    plan = simulate(tmp_path, (10, 50), 2)  # a tenth of what it is made for
    late = [trial.run_dir / "result.json" for trial in plan.trials[::100]]
    for path in late:
        path.rename(path.with_name("later"))
    assert collect(tmp_path) == 0
    for path in late:
        path.with_name("later").rename(path)
    driver = Path(__file__).parents[3] / "run_ablation.py"
    before, started = os.times(), time.monotonic()
    done = subprocess.run(
        [sys.executable, driver, "collect", "--study", "simulated"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user
    spent -= before.children_system
    assert "1000 trials, 10 of them new\n" in done.stdout
    assert min(spent, time.monotonic() - started) < 1.4  # to start takes most of it
