"""An interrupted run that goes on ends with the numbers of one that was left alone."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from attnlab.cli import main
from tests.test_cli import BASE


def config(folder: Path, **changes: Any) -> Path:
    task = {**BASE["model"], "class_path": "tests.doubles.RestlessTask"}
    base = {**BASE, "model": task, "data": {"class_path": "tests.doubles.KeyedNoise"}, **changes}
    path = folder / "base.yaml"
    path.write_text(yaml.safe_dump(base))
    return path


def fit(base: Path, run_dir: str, *options: str) -> int:
    arguments = ["--config", str(base), "--run_dir", run_dir, "--resume", "true"]
    try:
        main(["fit", *arguments, "--test_after_fit", "true", "--seed_everything", "5", *options])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def interruption(hook: str, count: int) -> list[str]:
    given = {
        "class_path": "tests.doubles.Interruption",
        "init_args": {"hook": hook, "count": count},
    }
    return [f"--trainer.callbacks={json.dumps([given])}"]


def outcome(run_dir: Path) -> dict[str, Any]:
    """Everything of a run that must not depend on interruptions."""
    result = json.loads((run_dir / "result.json").read_text())
    kept = {name: value for name, value in result["metrics"].items() if "perf/" not in name}
    weights = torch.load(run_dir / "checkpoints/last.ckpt", weights_only=False)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return {
        "metrics": kept,
        "lines": lines,
        "steps": (result["steps"], result["epochs"]),
        "weights": {name: value.tolist() for name, value in weights["state_dict"].items()},
    }


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["attnlab"])
    return tmp_path


PLACES = [
    ("on_train_batch_end", 2),
    ("on_train_batch_end", 5),
    ("on_train_batch_start", 8),
    ("on_validation_batch_end", 1),
    ("on_validation_batch_end", 4),
    ("on_validation_end", 2),
    ("on_train_epoch_end", 1),
    ("on_train_batch_end", 10),
    ("on_test_batch_end", 1),
]


@pytest.mark.parametrize(("workers", "places"), [(0, PLACES), (2, PLACES[1:4])])
def test_every_number_is_the_same_wherever_a_signal_comes(folder, workers, places):
    base = config(folder)
    options = [f"--data.num_workers={workers}"]
    assert fit(base, "whole", *options) == 0
    expected = outcome(folder / "whole")
    for hook, count in places:
        name = f"{hook}{count}"
        assert fit(base, name, *options, *interruption(hook, count)) == 75, name
        assert not (folder / name / "result.json").exists()
        assert fit(base, name, *options) == 0
        assert outcome(folder / name) == expected, name
