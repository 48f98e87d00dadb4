"""The run directory: what is written, when, and that it is whole."""

import json

import lightning as L
import pytest
import torch

from attnlab.callbacks.performance import Performance
from attnlab.callbacks.record import RunRecord
from attnlab.files import write_atomically
from attnlab.operators.baselines import WindowAttention
from attnlab.tasks.classification import ClassificationTask
from tests.doubles import NoiseData, TinyBackbone


class Hungry(ClassificationTask):
    """Holds 200 MiB for a moment in one training step."""

    def training_step(self, batch, batch_index):
        if batch_index == 2:
            torch.ones(200, 2**18).sum()
        return super().training_step(batch, batch_index)


def fit(tmp_path, task=ClassificationTask, epochs=2):
    record, performance = RunRecord(tmp_path, 5, {"window": 2}), Performance()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[record, performance],
    )
    trainer.fit(task(TinyBackbone(WindowAttention), 7), NoiseData())
    return trainer, record, performance


def test_files_of_a_fit(tmp_path):
    trainer, record, _ = fit(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["epoch"]) for line in lines] == [(4, 0), (8, 1)]
    assert all(0 <= line["val/top1"] <= 1 and line["train/loss"] > 0 for line in lines)
    progress = json.loads((tmp_path / "progress.json").read_text())
    counts = {"max_epochs": 2, "max_steps": 8, "epoch": 2, "step": 8, "validations": 2}
    assert {name: progress[name] for name in counts} == counts
    assert progress["started"] <= progress["updated"]
    assert progress["elapsed_s"] > 0
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["seed"] == 5
    assert provenance["versions"]["torch"] == torch.__version__
    assert not (tmp_path / "result.json").exists()

    record.write_result(trainer, "result.json", {"val/top1": torch.tensor(0.25), "x": float("nan")})
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["metrics"] == {"val/top1": 0.25, "x": None}
    assert (result["steps"], result["epochs"], result["hparams"]) == (8, 2, {"window": 2})
    (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[1]) + "\n")  # the first got lost
    record.write_result(trainer, "result.json", {"val/top1": torch.tensor(0.25)})
    kept = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept] == lines
    timing = result["timing"]
    assert timing["total_s"] >= timing["loop_s"] > 0
    assert timing["overhead_s"] == pytest.approx(timing["total_s"] - timing["loop_s"], abs=0.002)


def test_performance_counts(tmp_path, trimmed_heap):
    trainer, _, performance = fit(tmp_path, Hungry)
    summary = performance.summary
    expected = sum(p.numel() for p in trainer.lightning_module.parameters())
    assert summary["model/parameters"] == expected
    assert summary["model/gflops"] * 1e9 == pytest.approx(
        2 * (4 * 12 * 16 + 4 * 12 * 12 * 12 + 2 * 4 * 4 * 12 + 12 * 7)
    )
    assert summary["perf/images_per_s"] > 10
    assert 195 < summary["perf/peak_memory_mib"] < 400


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
