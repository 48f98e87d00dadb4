"""The driver as a process: what it runs, what it keeps, and what it says when it cannot."""

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnlab.ablation import parse
from attnlab.ablation import plan as planning
from attnlab.ablation.errors import UserError
from tests.ablation.conftest import ALL, REPORT, Lab, wait_until

ROOT = Path(__file__).parents[2]


def test_a_study_runs_each_trial_once_and_a_second_start_none(lab: Lab) -> None:
    code, out, err = lab.drive()
    assert (code, err) == (0, "")
    assert sorted(lab.trainings()) == ALL
    assert REPORT in out
    assert "dashboard: tensorboard --logdir runs/ablations/value/laptop" in out
    command, output, *_ = (lab.run_dir(1, 0) / "log.txt").read_text().splitlines()
    assert command.startswith("$ OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES='' ")
    study = "runs/ablations/value/laptop"
    base = f"{study}/.base/base-08dfd1eb.yaml"
    assert f" -m attnlab fit --config {base} --run_dir {study}/" in command
    assert (lab.root / base).read_text() == (lab.root / "base.yaml").read_text()
    assert output == "training with 1 threads"
    measured = json.loads((lab.run_dir(1, 0) / "driver.json").read_text())
    assert measured.pop("wall_s") > 0
    assert measured == {"workers": 2}
    code, out, _ = lab.drive()
    assert code == 0
    assert REPORT in out
    assert len(lab.trainings()) == 4


def test_a_grown_grid_runs_only_what_is_new(lab: Lab) -> None:
    lab.drive()
    lab.study["axes"]["value"]["values"] = [2, 1, 0]
    lab.study["seeds"] = [1, 0, 5]
    lab.study["baseline"] = {"value": 2}
    code, _, _ = lab.drive()
    assert code == 0
    assert sorted(lab.trainings()[4:]) == ["0 5", "1 5", "2 0", "2 1", "2 5"]


def test_files_edited_while_a_study_runs_change_nothing_and_are_named(lab: Lab) -> None:
    lab.behave("wait0 wait1")
    driver = lab.start()
    wait_until(lambda: len(lab.trainings()) == 2)
    (lab.root / "base.yaml").write_text("model: {value: 7}\n")
    lab.stanzas["studies"]["value"]["seeds"] = [0, 1, 2]
    lab.write()
    (lab.root / "gate").touch()
    code, out, _ = lab.finish(driver)
    assert (code, sorted(lab.trainings())) == (0, ALL)
    read = (
        "has changed since this run read it: the run is that of the earlier one, and the next "
        "start reads the new one"
    )
    assert out.splitlines()[-2:] == [f"ablations.yaml {read}", f"base.yaml {read}"]
    commands = {path.read_text().split(" --run_dir")[0] for path in lab.directory.rglob("log.txt")}
    assert len(commands) == 1  # of one base experiment


def test_a_base_edited_between_plan_and_copy_is_said(lab: Lab, tmp_path: Path) -> None:
    lab.write()
    ablations = parse.load(lab.root / "ablations.yaml")
    study, profile = ablations.study("value"), ablations.profile("laptop")
    plan = planning.make(study, profile, tmp_path / "runs")
    assert planning.freeze(plan, None).base.read_text() == plan.base.read_text()
    plan.base.write_text("model: {value: 7}\n")
    with pytest.raises(UserError, match=r"base\.yaml was edited while the driver started"):
        planning.freeze(plan, None)


def test_more_trials_at_a_time_than_cores_are_warned_of(lab: Lab) -> None:
    code, out, err = lab.drive("--workers", "3")
    assert code == 0
    assert err == (
        "run_ablation: warning: 3 trials at a time of 1 thread each want 3 cores; "
        "this machine has 2: they slow each other down\n"
    )
    assert REPORT in out


def test_a_second_driver_says_so_and_leaves(lab: Lab) -> None:
    lab.behave("wait0 wait1")
    driver = lab.start()
    wait_until(lambda: len(lab.trainings()) == 2)
    code, _, err = lab.drive()
    host = os.uname().nodename
    assert code == 2
    assert err == (
        "run_ablation: error: runs/ablations/value/laptop is driven already "
        f"by process {driver.pid} on {host}\n"
    )
    (lab.root / "gate").touch()
    assert lab.finish(driver)[0] == 0
    assert sorted(lab.trainings()) == ALL


def test_runs_of_another_stanza_are_not_touched(lab: Lab) -> None:
    lab.drive()
    before = {path: path.stat().st_mtime_ns for path in lab.directory.rglob("*")}
    lab.stanzas["profiles"]["laptop"]["overrides"] = {"trainer.max_steps": 400}
    (lab.root / "base.yaml").write_text("model: {value: 0, depth: 3, blocks: [{width: 1}]}\n")
    for option in ([], ["--dry-run"], ["--report"]):
        code, out, err = lab.call(*option)
        assert (code, out) == (2, "")
        assert err == (
            "run_ablation: error: runs/ablations/value/laptop holds runs of another stanza "
            "(base model.depth was unset, is 3; override trainer.max_steps was 800, is 400); "
            "choose another --output-dir, or remove that directory\n"
        )
    assert {path: path.stat().st_mtime_ns for path in lab.directory.rglob("*")} == before
    assert lab.drive("--output-dir", "elsewhere")[0] == 0


def test_a_directory_that_is_no_study_is_not_touched(lab: Lab) -> None:
    lab.directory.mkdir(parents=True)
    (lab.directory / "notes.txt").write_text("mine")
    code, _, err = lab.call()
    assert code == 2
    assert "runs/ablations/value/laptop is not the directory of a study" in err
    assert [path.name for path in lab.directory.iterdir()] == ["notes.txt"]


def test_where_nothing_can_be_written_one_line_says_so(lab: Lab) -> None:
    code, _, err = lab.call("--output-dir", "base.yaml/runs")
    assert code == 2
    assert err == (
        "run_ablation: error: base.yaml/runs/value/laptop: Not a directory; "
        "finished trials are kept\n"
    )


def test_dry_run_prints_what_would_run_and_touches_nothing(lab: Lab) -> None:
    code, out, _ = lab.call("--dry-run", "--workers", "3")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "study value, profile laptop: 2 cells x 2 seeds = 4 trials"
    assert lines[2] == "value=0 seed 0 (to run)"
    assert lines[3].endswith(
        "-m attnlab fit --config base.yaml "
        "--run_dir runs/ablations/value/laptop/value=0-e3877b23/seed0 --seed_everything 0 "
        "--test_after_fit true --resume true --hparams '{\"value\": 0}' --trainer.max_steps=800 "
        "--model.value=0"
    )
    assert lines[-1] == (
        "to run: 4 trials, 12.0 min one by one, 6.0 min with 3 at a time "
        "(error unknown; from profile laptop)"
    )
    assert not (lab.root / "runs").exists()


def test_dry_run_prices_by_what_has_finished(lab: Lab) -> None:
    lab.drive()
    for path in lab.directory.glob("*/*/driver.json"):
        path.unlink()  # which leaves the 30 s of result.json
    lab.study["seeds"] = [0, 1, 2, 3, 4]
    assert lab.call("--dry-run")[1].splitlines()[-1] == (
        "to run: 6 trials, 3.0 min one by one, 1.5 min with 2 at a time "
        "(± 0 %; from 4 finished trials)"
    )


def test_report_alone_runs_nothing(lab: Lab) -> None:
    code, _, err = lab.call("--report")
    assert code == 2
    assert err == ("run_ablation: error: runs/ablations/value/laptop: no trial has finished yet\n")
    lab.behave("raise0")
    lab.drive()
    code, out, _ = lab.drive("--report")
    assert code == 0
    assert out.startswith("reported; value=1 seed 0: 0.1; value=1 seed 1: 0.11\n")
    assert len(lab.trainings()) == 4


def test_a_terminal_sees_how_far_the_trials_are(lab: Lab) -> None:
    lab.behave("wait1")
    ours, theirs = pty.openpty()
    driver = lab.start(stdout=theirs)
    os.close(theirs)
    seen = b""
    while b"2 done, 2 running, 0 queued" not in seen or b"step 5/10, epoch 0/1" not in seen:
        seen += os.read(ours, 10_000)
    (lab.root / "gate").touch()
    while b"4/4] done value=1" not in seen:
        seen += os.read(ours, 10_000)
    driver.wait(timeout=20)
    os.close(ours)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--study", "valeu"], "unknown study 'valeu' (did you mean 'value'?); allowed: value"),
        (["--profile", "lap"], "unknown profile 'lap' (did you mean 'laptop'?); allowed: laptop"),
        (["--workers", "0"], "--workers must be at least 1, not 0"),
        (["--file", "none.yaml"], "none.yaml: no such file"),
    ],
)
def test_bad_arguments_are_one_line(lab: Lab, arguments: list[str], error: str) -> None:
    assert lab.call(*arguments) == (2, "", f"run_ablation: error: {error}\n")


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(3):  # the best of them, since others may be at work on the machine
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "run_ablation.py", "--help"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_lists_are_complete_and_import_nothing_heavy() -> None:
    script = (
        "import sys, runpy\n"
        "sys.argv = ['run_ablation.py', '--list']\n"
        "try: runpy.run_path('run_ablation.py', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'lightning', 'optuna', 'matplotlib', 'numpy', 'scipy', 'rich'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    *listing, heavy = out.splitlines()
    assert heavy == "[]"
    assert "  rpe_count: How many relative position embeddings does LiSA need?" in listing
    assert "      num_rpes: 0, 1, 2, 4, 8; seeds 0, 1, 2" in listing


def test_a_trial_on_several_machines_is_none_for_this_one(lab: Lab) -> None:
    lab.stanzas["profiles"]["laptop"]["nodes_per_cell"] = 2
    code, _, err = lab.call()
    assert code == 2
    assert err == (
        "run_ablation: error: profile laptop: nodes_per_cell=2: a trial on several machines needs "
        "--launcher slurm\n"
    )
