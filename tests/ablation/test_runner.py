"""Trials that fail, are impossible, or are stopped: what the driver keeps, and what it says."""

import os
import resource
import signal

import pytest

from attnlab.ablation import rundir
from attnlab.ablation.errors import UserError
from tests.ablation.conftest import ALL, REPORT, Lab, wait_until


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
    assert out.count("again value=3 seed 0: killed by SIGKILL (transient)") == 2
    assert "failed value=3 seed 0: killed by SIGKILL" in out
    assert "done value=4 seed 0: test/top1 is not finite, " in out
    assert "done value=5 seed 0: test/loss is not finite, " in out
    lab.behave("")
    code, out, _ = lab.drive()
    assert code == 1
    assert "reported; value=1 seed 0: 0.1; value=2 seed 0: 0.2; value=3 seed 0: 0.3; " in out
    assert "value=4 seed 0: None; value=5 seed 0: 0.5\n" in out  # the report shows them as failed
    again = ["2 0", "2 0", *4 * ["3 0"]]  # what was killed may live another time, at once
    assert sorted(lab.trainings()) == ["1 0", *again, "4 0", "5 0"]


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
    assert {path.name for path in lab.directory.iterdir()} <= {".base", ".lock"}


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM]])
def test_checks_that_are_stopped_say_nothing_about_their_cells(
    lab: Lab, signals: list[signal.Signals]
) -> None:
    lab.behave("hold0 hold1")
    driver = lab.start()
    wait_until(lambda: sorted(lab.checks()) == ["0", "1"])
    for number in signals:
        driver.send_signal(number)
        lab.read_until(driver, "the running trials")
    code, out, err = lab.finish(driver)
    assert (code, err) == (130, "")
    assert out.endswith("4 of 4 trials are missing; the same command runs them\n")
    assert lab.trainings() == []
    assert {path.name for path in lab.directory.iterdir()} <= {".base", ".lock"}


def test_a_torn_result_is_checked_and_run_again(lab: Lab) -> None:
    lab.drive()
    torn = lab.run_dir(1, 0) / "result.json"
    torn.write_bytes(torn.read_bytes()[:-10])
    code, out, err = lab.drive()
    assert (code, err) == (0, "")
    assert lab.checks()[2:] == ["1"]
    assert lab.trainings()[4:] == ["1 0"]
    assert REPORT in out


def test_a_metric_that_is_not_logged_stops_the_study_at_its_first_trial(lab: Lab) -> None:
    lab.study["metric"] = "test/top2"
    code, out, err = lab.drive("--workers", "1")
    run_dir = os.path.relpath(lab.run_dir(0, 0), lab.root)
    error = (
        "run_ablation: error: study value: metric 'test/top2' was not logged by "
        f"{run_dir}; logged: test/top1\n"
    )
    assert (code, err) == (2, error)
    assert "reported" not in out
    assert lab.trainings() in (["0 0"], ["0 0", "1 0"])  # the second is killed as it starts
    trained = len(lab.trainings())
    code, _, err = lab.drive()
    assert (code, err) == (2, error)
    assert len(lab.trainings()) == trained


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
