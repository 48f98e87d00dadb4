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


SMALL = [f"--data.{split}_size=64" for split in ("train", "val", "test")]


def test_some_experiments_were_found():
    assert {"lisa_pair.yaml", "lisa_clutter.yaml", "qna_pair.yaml"} <= {
        path.name for path in EXPERIMENTS
    }


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_experiment_trains_a_step_and_says_what_it_costs(path, tmp_path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# Command:") and str(path.name) in line for line in header)
    assert any(line.startswith("# Cost:") for line in header)
    assert any(line.startswith("# Expected:") for line in header)
    options = ["--run_dir", str(tmp_path / "run"), "--trainer.fast_dev_run", "true"]
    main(["fit", "--config", str(path), *options, *SMALL])


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
