"""Every experiment trains a step, and every cell of every study builds."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from attnlab.ablation import cells, parse
from attnlab.ablation import plan as planning
from attnlab.cli import main

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.yaml"))
ABLATIONS = parse.load(ROOT / "ablations.yaml")
STUDIES = ("rpe_count", "fft_approximation", "window_size", "query_count", "operator")


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["attnlab"])
    monkeypatch.setenv("ATTNLAB_CACHE", str(tmp_path / "cache"))


def small(data: dict) -> list[str]:
    """Return the options that keep a data set small, where its size can be chosen at all."""
    fixed = data["class_path"] == "attnlab.data.digits8.Digits8"
    return [] if fixed else [f"--data.{split}_size=64" for split in ("train", "val", "test")]


def test_some_experiments_were_found():
    names = {path.stem for path in EXPERIMENTS}
    assert {"lisa_pair", "lisa_clutter", "qna_pair"} <= names
    assert {"qna_vit_tiny", "qna_vit_tiny_7x7", "qna_vit_small", "qna_vit_base"} <= names


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_experiment_trains_a_step_and_says_what_it_costs(path, tmp_path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# Command:") and str(path.name) in line for line in header)
    assert any(line.startswith("# Cost:") for line in header)
    assert any(line.startswith("# Expected:") for line in header)
    options = ["--run_dir", str(tmp_path / "run"), "--trainer.fast_dev_run", "true"]
    data = yaml.safe_load(path.read_text())["data"]
    main(["fit", "--config", str(path), *options, *small(data)])


RECIPES = {  # drop path, epochs of warm-up in 300
    "qna_vit_tiny": (0.05, 5),
    "qna_vit_tiny_7x7": (0.05, 5),
    "qna_vit_small": (0.2, 5),
    "qna_vit_base": (0.5, 20),
}


@pytest.mark.parametrize("name", RECIPES)
def test_qna_networks_are_trained_by_their_published_recipe(name):
    spec = yaml.safe_load((ROOT / f"experiments/qna/{name}.yaml").read_text())
    model, batch = spec["model"]["init_args"], spec["data"]["init_args"]["batch_size"]
    drop_path, warmup = RECIPES[name]
    assert model["backbone"]["class_path"] == f"attnlab.models.qna_vit.{name}"
    assert model["backbone"]["init_args"]["drop_path"] == drop_path
    assert model["schedule"]["init_args"]["warmup"] == pytest.approx(warmup / 300, rel=0.01)
    optimizer = model["optimizer"]["init_args"]
    assert optimizer["lr"] == pytest.approx(5e-4 * batch / 256)
    assert (optimizer["betas"], optimizer["eps"]) == ([0.9, 0.999], 1e-8)
    assert (optimizer["weight_decay"], model["label_smoothing"]) == (0.05, 0.1)
    assert "gradient_clip_val" not in spec["trainer"]


def test_the_five_studies_are_there():
    assert tuple(ABLATIONS.studies) == STUDIES
    assert {"laptop", "clutter", "cifar", "imagenet", "ssv2"} == set(ABLATIONS.profiles)


@pytest.mark.parametrize("name", STUDIES)
def test_every_cell_builds(name, tmp_path):
    plan = planning.make(ABLATIONS.study(name), ABLATIONS.profile("laptop"), tmp_path)
    first = {trial.cell.key: trial for trial in reversed(plan.trials)}
    assert len(first) == len(plan.cells) >= 4
    seen = []
    for trial in first.values():
        arguments = cells.arguments(trial, plan.base)
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--check", "true"])
        assert stop.value.code == 0, trial
        seen.append(json.dumps(arguments))
    assert len(set(seen)) == len(seen)
    base = yaml.safe_load(plan.base.read_text())
    assert base["data"]["class_path"].startswith("attnlab.data.")
