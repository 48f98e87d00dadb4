"""The driver as a process: what it runs, what it keeps, and what it says when it cannot."""

import json
import os
import pty
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from attnlab.ablation import rundir
from attnlab.ablation.errors import UserError
from tests.ablation.conftest import Lab, wait_until

ROOT = Path(__file__).parents[2]
ALL = ["0 0", "0 1", "1 0", "1 1"]
REPORT = (
    "reported; value=0 seed 0: 0.0; value=1 seed 0: 0.1; "
    "value=0 seed 1: 0.01; value=1 seed 1: 0.11\n"
)


def test_a_study_runs_each_trial_once_and_a_second_start_none(lab: Lab) -> None:
    code, out, err = lab.drive()
    assert (code, err) == (0, "")
    assert sorted(lab.trainings()) == ALL
    assert REPORT in out
    assert "dashboard: tensorboard --logdir runs/ablations/value/laptop" in out
    command, output = (lab.run_dir(1, 0) / "log.txt").read_text().splitlines()
    assert command.startswith("$ python -m attnlab fit --config base.yaml --run_dir runs/")
    assert output == "training with 1 threads"
    assert json.loads((lab.run_dir(1, 0) / "driver.json").read_text())["wall_s"] > 0
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


def test_a_failed_trial_touches_no_other_and_runs_again(lab: Lab) -> None:
    lab.behave("raise0")
    code, out, _ = lab.drive()
    assert code == 1
    log = os.path.relpath(lab.run_dir(0, 1) / "log.txt", lab.root)
    assert f"failed value=0 seed 1: RuntimeError: value 0 blew up (log: {log})" in out
    assert "reported; value=1 seed 0: 0.1; value=1 seed 1: 0.11" in out
    assert "2 of 4 trials are missing" in out
    lab.behave("")
    assert lab.drive()[0] == 0
    assert sorted(lab.trainings()[4:]) == ["0 0", "0 1"]
    assert "RuntimeError" in (lab.run_dir(0, 1) / "log.1.txt").read_text()
    assert "RuntimeError" not in (lab.run_dir(0, 1) / "log.txt").read_text()


def test_the_run_directory_is_the_truth_whatever_the_exit_code(lab: Lab) -> None:
    lab.study["axes"]["value"]["values"] = [1, 2, 3, 4, 5]
    lab.study["seeds"] = [0]
    lab.behave("late1 torn2 kill3 null4 diverge5")
    code, out, _ = lab.drive()
    assert code == 1
    assert "done value=1 seed 0" in out
    assert "failed value=2 seed 0: ended well, but left no valid result.json" in out
    assert "failed value=3 seed 0: killed by SIGKILL" in out
    assert "done value=4 seed 0: test/top1 is not finite, " in out
    assert "done value=5 seed 0: test/loss is not finite, " in out
    lab.behave("")
    code, out, _ = lab.drive()
    assert code == 1
    assert "reported; value=1 seed 0: 0.1; value=2 seed 0: 0.2; value=3 seed 0: 0.3; " in out
    assert "value=4 seed 0: None; value=5 seed 0: 0.5\n" in out  # the report shows them as failed
    assert sorted(lab.trainings()[5:]) == ["2 0", "3 0"]


def test_an_impossible_cell_is_found_before_anything_is_trained(lab: Lab) -> None:
    lab.study["axes"]["value"]["values"] = ["1", "four", "five"]
    lab.study["baseline"] = {"value": "1"}
    code, _, err = lab.drive()
    assert code == 2
    assert err == "".join(
        f"run_ablation: error: study value, cell value={word}: "
        f"model.value: expected an int, got {word!r}\n"
        for word in ("four", "five")
    )
    assert lab.trainings() == []
    assert [path.name for path in lab.directory.iterdir()] == [".lock"]


def test_kill_9_takes_the_trials_along_and_the_next_start_completes(lab: Lab) -> None:
    lab.behave("wait1")
    driver = lab.start()
    wait_until(lambda: sorted(lab.trainings()) == ALL)
    wait_until(lambda: (lab.run_dir(0, 1) / "driver.json").exists())
    for seed in (0, 1):
        with (
            pytest.raises(UserError, match="a trial lives by process"),
            rundir.locked(lab.run_dir(1, seed) / ".lock", "a trial lives"),
        ):
            pass
    driver.kill()
    driver.wait()
    for seed in (0, 1):
        with rundir.locked(lab.run_dir(1, seed) / ".lock", "a trial lives", patience_s=5.0):
            assert not (lab.run_dir(1, seed) / "result.json").exists()
    lab.behave("")
    code, out, err = lab.drive()
    assert (code, err) == (0, "")
    assert sorted(lab.trainings()[4:]) == ["1 0", "1 1"]
    assert REPORT in out


def test_ctrl_c_finishes_the_running_trials_and_starts_no_other(lab: Lab) -> None:
    lab.behave("wait0 wait1")
    driver = lab.start()
    wait_until(lambda: len(lab.trainings()) == 2)
    os.killpg(driver.pid, signal.SIGINT)  # as the terminal does, to the driver and all it started
    lab.read_until(driver, "press Ctrl-C again to stop now")
    (lab.root / "gate").touch()
    code, out, err = lab.finish(driver)
    assert (code, err) == (130, "")
    assert "reported; value=0 seed 0: 0.0; value=1 seed 0: 0.1\n" in out
    assert "2 of 4 trials are missing" in out
    assert lab.drive()[0] == 0
    assert sorted(lab.trainings()) == ALL


@pytest.mark.parametrize(
    ("signals", "behave"),
    [([signal.SIGINT, signal.SIGINT], "wait1"), ([signal.SIGTERM], "stubborn1")],
)
def test_ctrl_c_twice_stops_but_keeps_what_is_finished(
    lab: Lab, signals: list[signal.Signals], behave: str
) -> None:
    lab.behave(behave)
    driver = lab.start("--workers", "1")
    wait_until(lambda: lab.trainings() == ["0 0", "1 0"])
    for number in signals:
        driver.send_signal(number)
        lab.read_until(driver, "the running trials")
    code, out, err = lab.finish(driver)
    assert (code, err) == (130, "")
    assert "stopped value=1 seed 0" in out
    assert "reported; value=0 seed 0: 0.0\n" in out
    with rundir.locked(lab.run_dir(1, 0) / ".lock", "a trial lives"):
        pass


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


def test_a_full_disk_ends_the_run_in_one_line_and_keeps_what_is_finished(lab: Lab) -> None:
    lab.drive()
    lab.study["seeds"] = [0, 1, 2]

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    code, out, err = lab.drive(preexec_fn=no_room)
    assert code == 2
    assert err.startswith("run_ablation: error: ")
    assert err.count("\n") == 1
    assert "File too large" in err
    code, out, _ = lab.drive("--report")
    assert code == 0
    assert REPORT in out


def test_dry_run_prints_what_would_run_and_touches_nothing(lab: Lab) -> None:
    code, out, _ = lab.call("--dry-run", "--workers", "3")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "study value, profile laptop: 2 cells x 2 seeds = 4 trials"
    assert lines[2] == "value=0 seed 0 (to run)"
    assert lines[3].endswith(
        "-m attnlab fit --config base.yaml "
        "--run_dir runs/ablations/value/laptop/value=0-e3877b23/seed0 --seed_everything 0 "
        "--test_after_fit true --hparams '{\"value\": 0}' --trainer.max_steps=800 --model.value=0"
    )
    assert lines[-1] == (
        "to run: 4 trials, 12.0 min one by one, 6.0 min with 3 at a time "
        "(estimated from profile laptop)"
    )
    assert not (lab.root / "runs").exists()


def test_dry_run_prices_by_what_has_finished(lab: Lab) -> None:
    lab.drive()
    for path in lab.directory.glob("*/*/driver.json"):
        path.unlink()  # which leaves the 30 s of result.json
    lab.study["seeds"] = [0, 1, 2, 3, 4]
    assert lab.call("--dry-run")[1].splitlines()[-1] == (
        "to run: 6 trials, 3.0 min one by one, 1.5 min with 2 at a time "
        "(estimated from 4 finished trials)"
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


def test_help_is_quick_and_lists_are_complete() -> None:
    script = (
        "import sys, time, runpy; start = time.perf_counter()\n"
        "sys.argv = ['run_ablation.py', '--list']\n"
        "try: runpy.run_path('run_ablation.py', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(time.perf_counter() - start)\n"
        "heavy = {'torch', 'lightning', 'optuna', 'matplotlib', 'numpy', 'scipy', 'rich'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    *listing, seconds, heavy = out.splitlines()
    assert heavy == "[]"
    assert float(seconds) < 0.4
    assert "  rpe_count: How many relative position embeddings does LiSA need?" in listing
    assert "      num_rpes: 0, 1, 2, 4, 8; seeds 0, 1, 2" in listing
