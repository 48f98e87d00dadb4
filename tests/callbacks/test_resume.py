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


def interruption(hook: str, count: int, **options: int) -> list[str]:
    given = {
        "class_path": "tests.doubles.Interruption",
        "init_args": {"hook": hook, "count": count, **options},
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
    ("on_train_batch_end", 3),
    ("on_validation_batch_end", 1),
    ("on_validation_end", 1),
    ("on_train_epoch_end", 1),
    ("on_train_batch_start", 2),
    ("on_train_batch_end", 2),
    ("on_validation_batch_end", 2),
    ("on_test_batch_end", 1),
]


@pytest.mark.parametrize(("workers", "places"), [(0, PLACES), (2, [PLACES[1], PLACES[2]])])
def test_every_number_is_the_same_wherever_signals_come(folder, workers, places):
    base = config(folder)
    options = [f"--data.num_workers={workers}"]
    assert fit(base, "whole", *options) == 0
    for hook, count in places:  # one after another in one run
        assert fit(base, "run", *options, *interruption(hook, count)) == 75, (hook, count)
        assert not (folder / "run/result.json").exists()
    assert fit(base, "run", *options) == 0
    assert outcome(folder / "run") == outcome(folder / "whole")


def callback(path: str, **options: Any) -> dict[str, Any]:
    return {"class_path": f"lightning.pytorch.callbacks.{path}", "init_args": options}


STEPS = callback("ModelCheckpoint", every_n_train_steps=2, save_last=True)
EPOCHS = callback("ModelCheckpoint", save_on_train_epoch_end=True, save_last=True)
AVERAGE = callback("EMAWeightAveraging", decay=0.8)
EARLY = callback("EarlyStopping", monitor="val/loss", patience=1, mode="max")
LIMITED = {"max_epochs": -1, "max_steps": 8}
BY_STEPS = {**LIMITED, "val_check_interval": 4, "check_val_every_n_epoch": None}


@pytest.mark.parametrize(
    ("given", "trainer", "cuts", "number"),
    [
        (
            [AVERAGE],
            {"val_check_interval": 2},
            [("on_train_batch_end", 2), ("on_validation_batch_end", 1)],
            15,
        ),
        ([], {"accumulate_grad_batches": 2}, [("on_train_batch_end", 1)], 10),
        (
            [EARLY],
            {"max_epochs": 6, "val_check_interval": 2},
            [("on_validation_end", 2), ("on_test_batch_end", 1)],
            15,
        ),
        ([STEPS], BY_STEPS, [("on_before_optimizer_step", 4), ("on_validation_batch_end", 3)], 0),
        ([EPOCHS], LIMITED, [("on_train_batch_start", 6)], 0),
    ],
)
def test_checkpoints_of_every_hook_do(folder, given, trainer, cuts, number):
    base = config(folder, trainer={**BASE["trainer"], **trainer})
    plain = f"--trainer.callbacks={json.dumps(given)}"
    assert fit(base, "whole", plain) == 0
    for hook, count in cuts:
        options = {"hook": hook, "count": count, "number": number}
        cut = {"class_path": "tests.doubles.Interruption", "init_args": options}
        try:
            code = fit(base, "run", f"--trainer.callbacks={json.dumps([cut, *given])}")
        except RuntimeError:
            code = None
        assert code == (75 if number else None)
    assert fit(base, "run", plain) == 0
    assert outcome(folder / "run") == outcome(folder / "whole")


def test_loaders_without_a_state_are_taken_up(folder):
    base = config(folder, data={"class_path": "tests.doubles.NoiseData"})
    assert fit(base, "whole") == 0
    assert fit(base, "run", *interruption("on_train_batch_end", 2)) == 75
    assert fit(base, "run", *interruption("on_train_batch_end", 4)) == 75
    assert fit(base, "run") == 0
    assert outcome(folder / "run") == outcome(folder / "whole")
