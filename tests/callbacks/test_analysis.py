"""Redundancy of a fit: the figures of its final weights, its training as it was."""

import json
import math
import sys

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from attnlab.analysis.redundancy import analyse
from attnlab.backbones.lisa_vit import LisaViT
from attnlab.callbacks.analysis import Redundancy
from attnlab.cli import main
from attnlab.operators.lisa import LiSA
from attnlab.tasks.classification import ClassificationTask
from tests.analyze.bare import BareBackbone
from tests.doubles import NoiseData
from tests.test_cli import BASE

CALLBACK = {"class_path": "attnlab.callbacks.analysis.Redundancy", "init_args": {"samples": 20}}


def task() -> ClassificationTask:
    torch.manual_seed(3)
    sizes = {"image_size": 8, "patch_size": 2, "in_channels": 1, "width": 12, "heads": 2}
    return ClassificationTask(LisaViT(LiSA, depth=2, mlp_ratio=2, drop_path=0.2, **sizes), 7)


def fit(tmp_path, *callbacks: L.Callback, **options) -> tuple[ClassificationTask, L.Trainer]:
    L.seed_everything(5, verbose=False)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=TensorBoardLogger(tmp_path, name="", version=""),
        log_every_n_steps=1,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trained = task()
    trainer.fit(trained, NoiseData())
    return trained, trainer


def test_figures_are_those_of_the_final_weights(tmp_path):
    callback = Redundancy(samples=20, kernel_samples=3, max_queries=5)
    trained, trainer = fit(tmp_path, callback)
    loader: DataLoader = NoiseData().val_dataloader()
    (first, _), (second, _) = loader
    found = analyse(trained, [first, second[:4]], kernel_samples=3, max_queries=5)
    assert callback.summary == found.summary()
    assert len(callback.summary) == 7
    assert callback.batches == []
    trainer.logger.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()
    for tag, value in callback.summary.items():
        assert events.Scalars(tag)[-1].value == pytest.approx(value)
        assert events.Scalars(tag)[-1].step == 8
    assert events.Tags()["images"] == [
        "diag/cka_layers",
        "diag/kernel_similarity",
        "diag/blocks.0/kernel",
        "diag/blocks.1/kernel",
    ]


def test_training_is_the_same_to_the_last_bit(tmp_path):
    plain, _ = fit(tmp_path / "plain")
    state = torch.get_rng_state()
    watched, _ = fit(tmp_path / "watched", Redundancy())
    assert torch.equal(torch.get_rng_state(), state)
    weights = watched.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in plain.state_dict().items())


def test_a_fit_without_validation_is_not_analysed(tmp_path):
    callback = Redundancy()
    fit(tmp_path, callback, limit_val_batches=0)
    assert callback.summary == {}


def test_a_fit_that_diverged_ends_as_any_other(tmp_path):
    class Diverge(L.Callback):
        def on_train_end(self, trainer, module):
            with torch.no_grad():
                module.classifier.backbone.blocks[0].mixer.to_v.weight.fill_(float("nan"))
                module.classifier.backbone.blocks[1].mixer.to_q.weight.fill_(float("inf"))

    callback = Redundancy()
    fit(tmp_path, callback, Diverge())
    assert "diag/cka" not in callback.summary
    assert all(math.isfinite(value) for value in callback.summary.values())


def test_a_network_without_mixers_keeps_its_fit(tmp_path):
    callback = Redundancy()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.warns(UserWarning, match="not measured: ClassificationTask has no token mixer"):
        trainer.fit(ClassificationTask(BareBackbone(), 7), NoiseData())
    assert callback.summary == {}


def test_an_analysis_that_fails_says_so_and_keeps_the_fit(monkeypatch):
    callback = Redundancy()
    callback.batches = [torch.zeros(3, 1, 8, 8)] * 2
    with pytest.warns(UserWarning, match="not measured: CKA needs a minibatch of at least 4 sam"):
        callback.on_fit_end(L.Trainer.__new__(L.Trainer), task())

    def diverge(*args):
        raise torch.linalg.LinAlgError("the algorithm failed to converge")

    monkeypatch.setattr("attnlab.callbacks.analysis.analyse", diverge)
    with pytest.warns(UserWarning, match="not measured: the algorithm failed"):
        callback.on_fit_end(L.Trainer.__new__(L.Trainer), task())
    assert callback.summary == {}


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_run_stopped_after_its_last_validation_is_analysed_when_it_goes_on(
    tmp_path, monkeypatch, checkpoints
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["attnlab"])
    trainer = {"callbacks": [CALLBACK], "enable_checkpointing": checkpoints, "max_epochs": 1}
    experiment = BASE | {"trainer": BASE["trainer"] | trainer}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(experiment))
    given = ["fit", "--config", "run.yaml", "--test_after_fit", "true", "--resume", "true"]
    stop = ["--trainer.callbacks+=tests.doubles.Interruption", "--trainer.callbacks.count=1"]
    stop += ["--trainer.callbacks.hook=on_test_batch_start"]
    main([*given, "--run_dir", "whole"])
    with pytest.raises(SystemExit, match="75"):
        main([*given, "--run_dir", "stopped", *stop])
    main([*given, "--run_dir", "stopped"])
    whole, stopped = (
        json.loads((tmp_path / name / "result.json").read_text())["metrics"]
        for name in ("whole", "stopped")
    )
    found = {name: value for name, value in whole.items() if name.startswith("diag/")}
    assert "diag/kernel_entropy" in found
    assert {name: value for name, value in stopped.items() if name.startswith("diag/")} == found


def test_result_holds_figures_beside_unchanged_metrics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["attnlab"])
    metrics = {}
    for name, callbacks in (("plain", []), ("watched", [CALLBACK])):
        trainer = BASE["trainer"] | {"callbacks": callbacks}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(BASE | {"trainer": trainer}))
        main(["fit", "--config", f"{name}.yaml", "--run_dir", name, "--test_after_fit", "true"])
        metrics[name] = json.loads((tmp_path / name / "result.json").read_text())["metrics"]
    added = {name for name in metrics["watched"] if name.startswith("diag/")}
    assert metrics["watched"].keys() - metrics["plain"].keys() == added
    assert "diag/kernel_entropy" in added
    assert "diag/cka" not in added  # there is one block only
    for name in ("train/loss", "val/loss", "test/loss", "test/top1", "model/gflops"):
        assert metrics["watched"][name] == metrics["plain"][name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 3}, "samples=3 must be at least 4"),
        ({"kernel_samples": 0}, "kernel_samples=0 must be at least 1"),
        ({"max_queries": -1}, "max_queries=-1 must be at least 1"),
    ],
)
def test_numbers_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Redundancy(**options)
