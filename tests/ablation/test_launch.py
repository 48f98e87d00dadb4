"""Trials on this machine: each once, in its own share of it, and again where that makes sense."""

import os
import signal

import pytest

from attnlab.ablation import attempts
from attnlab.ablation.attempts import Kind
from tests.ablation.conftest import ALL, REPORT, Lab, wait_until
from tests.faults import processes


def test_eight_workers_train_each_of_72_trials_once(lab: Lab) -> None:
    lab.study["axes"]["value"]["values"] = list(range(24))
    lab.study["seeds"] = [0, 1, 2]
    code, out, _ = lab.drive("--workers", "8")
    assert code == 0
    assert "72 trials, 0 done, 8 at a time" in out
    wanted = sorted(f"{value} {seed}" for value in range(24) for seed in range(3))
    assert sorted(lab.trainings()) == wanted
    assert len(list(lab.directory.glob("*/*/result.json"))) == 72


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be shared out")
def test_trials_side_by_side_are_pinned_to_different_cores(lab: Lab) -> None:
    lab.behave("wait0 wait1")
    driver = lab.start()
    logs = [lab.directory / f"value={name}/seed0/log.txt" for name in ("0-e3877b23", "1-5282b364")]
    wait_until(lambda: all(log.exists() and "imported" in log.read_text() for log in logs))
    lines = [log.read_text().partition("on cores ")[2].splitlines()[0] for log in logs]
    first, second = (line.split() for line in lines)
    assert first
    assert len(first) == len(second) == len(os.sched_getaffinity(0)) // 2
    assert not set(first) & set(second)
    (lab.root / "gate").touch()
    assert lab.finish(driver)[0] == 0


def test_out_of_memory_is_tried_three_times_in_one_start(lab: Lab) -> None:
    lab.behave("memory1")
    lab.study["seeds"] = [0]
    code, out, _ = lab.drive()
    assert code == 1
    error = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert out.count(f"again value=1 seed 0: {error} (out of memory)") == 2
    assert f"failed value=1 seed 0: {error} (log: " in out
    assert sorted(lab.trainings()) == ["0 0", "1 0", "1 0", "1 0"]
    failure = attempts.read_failure(lab.run_dir(1, 0))
    assert failure is not None
    assert (failure.kind, failure.attempt) == (Kind.MEMORY, 3)
    lab.behave("")
    assert lab.drive()[0] == 0
    assert attempts.read_failure(lab.run_dir(1, 0)) is None


def test_what_somebody_else_stopped_goes_on_at_once(lab: Lab) -> None:
    lab.behave("stop1")
    code, out, _ = lab.drive()
    assert code == 0
    assert out.count("again value=1 seed ") == 2
    assert "again value=1 seed 0: it was stopped by somebody else" in out
    assert sorted(lab.trainings()) == sorted([*ALL, "1 0", "1 1"])


def test_what_stops_in_one_place_over_and_over_has_failed(lab: Lab) -> None:
    lab.behave("stall1")
    lab.study["seeds"] = [0]
    code, out, _ = lab.drive()
    assert code == 1
    assert "failed value=1 seed 0: it stopped 3 times in a row at step 5 (log: " in out
    assert lab.trainings().count("1 0") == 4  # the first got as far as step 5


def test_a_trial_over_its_time_is_ended(lab: Lab) -> None:
    lab.stanzas["profiles"]["laptop"]["time_limit_minutes"] = 0.02
    lab.behave("stubborn1")
    lab.study["seeds"] = [0]
    code, out, _ = lab.drive()
    assert code == 1
    assert "failed value=1 seed 0: it took over 0.02 min (log: " in out
    assert sorted(lab.trainings()) == ["0 0", "1 0"]
    failure = attempts.read_failure(lab.run_dir(1, 0))
    assert failure is not None
    assert (failure.kind, failure.exit_code) == (Kind.TIME, -signal.SIGKILL)


def test_the_death_of_the_fork_server_costs_no_trial(lab: Lab) -> None:
    lab.behave("wait1")
    driver = lab.start()
    wait_until(lambda: sorted(lab.trainings()) == ALL)
    server = processes.server(driver.pid)
    assert server is not None
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: len(lab.trainings()) == 6)
    (lab.root / "gate").touch()
    code, out, err = lab.finish(driver)
    assert (code, err) == (0, "")
    assert "again value=1 seed 0: killed by SIGKILL (transient)" in out
    assert sorted(lab.trainings()[4:]) == ["1 0", "1 1"]
    assert REPORT in out


def test_what_a_config_names_is_imported_once_for_all_trials(lab: Lab) -> None:
    named = "{class_path: attnlab.messages.one_line, other: {class_path: attnlab.no.such.thing}}"
    with (lab.root / "base.yaml").open("a") as base:
        base.write(f"x: {named}\n")
    lab.study["seeds"] = [0]
    assert lab.drive()[0] == 0
    log = (lab.run_dir(1, 0) / "log.txt").read_text()
    assert "attnlab.messages" in log.partition("imported already:")[2].split()
