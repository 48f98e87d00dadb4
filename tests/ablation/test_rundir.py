"""What a run directory proves, and what is left of it when its trial starts again."""

import json
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from attnlab.ablation import rundir
from attnlab.ablation.cells import Cell, Trial
from attnlab.callbacks.record import RunRecord
from tests.ablation.fake_trial import record


def make_trial(run_dir: Path, seed: int = 3) -> Trial:
    return Trial(Cell("s", "laptop", {"a": 1}, {"x": 1}, "01234567", "a=1"), seed, run_dir)


def write_result(run_dir: Path, **changes: Any) -> None:
    whole = {**record(0.5, 3, {"a": 1}), **changes}
    (run_dir / "result.json").write_text(json.dumps(whole))


def test_a_result_is_the_record_and_the_wall_time(tmp_path: Path) -> None:
    assert rundir.read_result(make_trial(tmp_path / "none")) is None
    write_result(tmp_path, metrics={"test/top1": 1, "test/loss": None})
    result = rundir.read_result(make_trial(tmp_path))
    assert result is not None
    assert result.record["metrics"]["test/top1"] == 1
    assert (result.wall_s, result.workers) == (None, None)
    for workers in ({}, {"workers": 3}):  # runs of earlier versions do not say
        rundir.write_json(tmp_path / "driver.json", {"wall_s": 2.5, **workers})
        result = rundir.read_result(make_trial(tmp_path))
        assert result is not None
        assert (result.wall_s, result.workers) == (2.5, workers.get("workers"))


def test_the_record_of_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    recorder = RunRecord(tmp_path, 3, {"a": 1})
    recorder.setup(trainer, L.LightningModule(), "fit")
    metrics = {"test/top1": torch.tensor(0.25), "test/loss": math.nan, "test/spread": math.inf}
    recorder.write_result(trainer, "result.json", metrics)
    result = rundir.read_result(make_trial(tmp_path))
    assert result is not None
    assert result.record["metrics"] == {"test/top1": 0.25, "test/loss": None, "test/spread": None}


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"seed": 4},
        {"metrics": {"test/top1": "0.5"}},
        {"metrics": None},
        {"timing": None},
        {"finished": None},
    ],
)
def test_a_foreign_result_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_result(tmp_path, **changes)
    assert rundir.read_result(make_trial(tmp_path)) is None


def test_a_result_torn_anywhere_is_none(tmp_path: Path) -> None:
    write_result(tmp_path)
    whole = (tmp_path / "result.json").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "result.json").write_bytes(whole[:length])
        assert rundir.read_result(make_trial(tmp_path)) is None
    (tmp_path / "result.json").write_bytes(whole.replace(b"metrics", b"metr\xff\xfe"))
    assert rundir.read_result(make_trial(tmp_path)) is None


@pytest.mark.parametrize(
    ("counts", "fraction", "text"),
    [
        ((200, 800, 1, 20), 0.25, "step 200/800, epoch 1/20"),
        ((200, -1, 5, 20), 0.25, "epoch 5/20"),
        ((900, 800, 0, -1), 1.0, "step 900/800"),
        ((200, -1, 5, -1), 0.0, ""),
    ],
)
def test_progress_follows_the_limit_that_comes_first(
    tmp_path: Path, counts: tuple[int, ...], fraction: float, text: str
) -> None:
    names = ("step", "max_steps", "epoch", "max_epochs")
    rundir.write_json(tmp_path / "progress.json", dict(zip(names, counts, strict=True)))
    progress = rundir.read_progress(tmp_path)
    assert progress is not None
    assert (progress.fraction, str(progress)) == (fraction, text)


def test_progress_may_be_missing_or_torn(tmp_path: Path) -> None:
    assert rundir.read_progress(tmp_path) is None
    (tmp_path / "progress.json").write_text('{"step": 3, "max_st')
    assert rundir.read_progress(tmp_path) is None


def test_cleaning_leaves_only_the_logs(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    run_dir = tmp_path / "run"
    for attempt in ("first", "second"):
        (run_dir / "checkpoints" / "deep").mkdir(parents=True)
        (run_dir / "link").symlink_to(elsewhere)
        (run_dir / "events.out").touch()
        (run_dir / "log.txt").write_text(attempt)
        rundir.prepare(run_dir, keep=False)
    assert {path.name for path in run_dir.iterdir()} == {"log.1.txt", "log.2.txt"}
    assert (run_dir / "log.1.txt").read_text() == "first"
    assert (run_dir / "log.2.txt").read_text() == "second"
    assert (elsewhere / "precious").exists()


def test_a_trial_that_goes_on_finds_its_checkpoints_but_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    stays = {"checkpoints/last.ckpt", "hpc_ckpt_1.ckpt", "metrics.jsonl", "events.out.tfevents.1"}
    goes = {"result.json", "failure.json", "attempt.json", "PRUNE", ".result.json.0f.tmp"}
    for name in (*stays, *goes, "log.txt", "log.7.txt"):
        (tmp_path / name).write_text(name)
    rundir.prepare(tmp_path, keep=True)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*stays, "log.7.txt", "log.8.txt"}
    assert (tmp_path / "log.8.txt").read_text() == "log.txt"


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    rundir.write_json(tmp_path / "study.json", {"old": 1})
    with pytest.raises(TypeError):
        rundir.write_json(tmp_path / "study.json", {"new": object()})
    assert rundir.read_json(tmp_path / "study.json") == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("start\nTraceback ...\nValueError: num_rpes=-1\n", "ValueError: num_rpes=-1"),
        ("torch.cuda.OutOfMemoryError: 3 GiB\nEpoch 3\n", "torch.cuda.OutOfMemoryError: 3 GiB"),
        ("attnlab: error: no such key\n\n", "attnlab: error: no such key"),
        ("Epoch 1\rEpoch 2\r\n", "Epoch 2"),
        ("$ python -m attnlab fit\n", ""),
    ],
)
def test_the_error_of_a_log(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "log.txt").write_text(text)
    assert rundir.last_error(tmp_path / "log.txt") == error
    assert rundir.last_error(tmp_path / "none.txt") == ""
