"""Ending early: on a signal, by a search, at a number of samples, with a full disk."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from attnlab import stopping
from attnlab.callbacks import checkpoints
from tests.callbacks.test_resume import config, fit, folder, interruption

__all__ = ["folder"]


def result(run_dir: str) -> dict:
    return json.loads(Path(run_dir, "result.json").read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_process_that_has_only_begun_leaves_nothing_undone(folder, number):
    base = config(folder)
    command = [sys.executable, "-m", "attnlab", "fit", "--config", str(base), "--run_dir", "run"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        handled = Path(f"/proc/{process.pid}/status")
        while int(handled.read_text().split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1 == 0:
            time.sleep(0.01)
        process.send_signal(number)
        process.send_signal(number)
        assert process.wait(60) == 75
    assert not Path("run/result.json").exists()


def test_the_checkpoint_of_a_signal_needs_no_others_and_goes_with_the_result(folder):
    base, bare = config(folder), "--trainer.enable_checkpointing=false"
    assert fit(base, "whole", bare) == 0
    assert fit(base, "run", bare, *interruption("on_train_batch_end", 7)) == 75
    assert [path.name for path in Path("run").rglob("*.ckpt")] == [checkpoints.STOPPED]
    assert fit(base, "run", bare) == 0
    assert not list(Path("run").rglob("*.ckpt"))
    names = ("train/loss", "train/mean", "train/accuracy", "val/loss", "test/loss")
    whole, resumed = (result(name)["metrics"] for name in ("whole", "run"))
    assert [resumed[name] for name in names] == [whole[name] for name in names]
    assert fit(base, "run", bare) == 2  # a finished run stays refused


FORKS = """
import multiprocessing, os, subprocess, sys, time
from attnlab import stopping

stopping.install()
stopping.watch()
forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
forked.start()
for number in stopping.SIGNALS:
    group = str(-os.getpgrp())
    subprocess.run(["kill", f"-{int(number)}", "--", group], process_group=0, check=True)
time.sleep(0.3)
print(stopping.requested(), forked.is_alive())
forked.terminate()
forked.join(10)
sys.exit(forked.exitcode)
"""


def test_a_signal_to_all_processes_of_a_job_spares_those_forked_from_it():
    command = [sys.executable, "-c", FORKS]
    ended = subprocess.run(command, process_group=0, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("True True\n", "", 0)


def test_what_breaks_after_a_request_counts_as_stopping(capsys):
    @stopping.heeded(True)
    def broken(*signals: int) -> None:
        stopping.watch()
        for number in signals:
            os.kill(os.getpid(), number)
        raise RuntimeError("connection closed by peer")

    with pytest.raises(stopping.StopRequested):
        broken(signal.SIGTERM)
    assert "closed by peer" in capsys.readouterr().err
    with pytest.raises(RuntimeError):
        broken()


def test_clocks_do_not_decide_which_checkpoint_is_the_newest(tmp_path):
    for name, begun, step, date in (
        ("before", "2026-01-01", 9, 400),  # of a run that was begun anew since
        ("last", "2026-01-02", 4, 300),
        ("resume", "2026-01-02", 6, 100),  # the clock was set back meanwhile
        ("last-v1", "2026-01-02", 6, 90),
    ):
        record = {"callbacks": {"RunRecord": {"started": begun}}, "global_step": step}
        torch.save({**record, "loops": {}, "optimizer_states": []}, tmp_path / f"{name}.ckpt")
        os.utime(tmp_path / f"{name}.ckpt", (date, date))
    assert checkpoints.newest(tmp_path)[0].name == "resume.ckpt"


def test_torn_checkpoints_are_passed_over(tmp_path):
    good = {"loops": {}, "optimizer_states": [], "global_step": 3}
    torch.save(good, tmp_path / "last.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last-v1.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = checkpoints.newest(tmp_path)
    assert found == (tmp_path / "last.ckpt", good)
    told = sorted(str(warning.message) for warning in caught)
    assert len(told) == 2
    assert "hpc_ckpt_1.ckpt" in told[0]
    assert "last-v1.ckpt" in told[1]
    assert all("\n" not in line for line in told)
    assert checkpoints.newest(tmp_path / "none") is None


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path, writer = tmp_path / "last.ckpt", checkpoints.WholeCheckpoints()
    writer.save_checkpoint({"step": 1}, path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(checkpoints.UnsavedCheckpointError, match="No space left on device"):
        writer.save_checkpoint({"step": 2}, path)
    assert torch.load(path) == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_search_can_give_a_run_up(folder):
    Path("run").mkdir()
    Path("run/PRUNE").touch()
    assert fit(config(folder), "run", "--trainer.min_epochs=2") == 0
    found = result("run")
    assert (found["pruned"], found["epochs"], found["steps"]) == (True, 1, 5)
    assert "val/loss" in found["metrics"]
    assert "test/loss" not in found["metrics"]


def test_a_budget_of_samples_is_rounded_up_to_steps(folder):
    options = ["--max_samples=220", "--trainer.accumulate_grad_batches=2"]
    assert fit(config(folder), "run", *options) == 0
    assert result("run")["steps"] == 7  # of 32 samples each
    assert "pruned" not in result("run")


def test_checkpoints_come_by_the_clock(folder):
    options = ["--checkpoint_every_minutes=1e-9", "--trainer.enable_checkpointing=false"]
    callback = {"hook": "on_train_batch_start", "count": 4, "number": 0}
    given = [{"class_path": "tests.doubles.Interruption", "init_args": callback}]
    with pytest.raises(RuntimeError, match="broken"):
        fit(config(folder), "run", *options, f"--trainer.callbacks={json.dumps(given)}")
    saved = torch.load(Path("run", checkpoints.STOPPED), weights_only=False)
    assert saved["global_step"] == 3
    assert fit(config(folder), "run", *options) == 0
    assert not Path("run", checkpoints.STOPPED).exists()
