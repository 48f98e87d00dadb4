"""Every cell of every study builds."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from attnlab.ablation import parse
from attnlab.ablation import plan as planning
from attnlab.cli import main

ROOT = Path(__file__).parents[1]
ABLATIONS = parse.load(ROOT / "ablations.yaml")
STUDIES = ("rpe_count", "fft_approximation", "window_size", "query_count", "operator")
ON_DISK = ("cifar", "imagenet", "ssv2")


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["attnlab"])


def check(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--check", "true"])
    assert stop.value.code == 0, arguments


def test_the_five_studies_are_there():
    assert tuple(ABLATIONS.studies) == STUDIES
    assert {"laptop", "clutter", *ON_DISK} == set(ABLATIONS.profiles)


@pytest.mark.parametrize("name", STUDIES)
def test_every_cell_builds(name, tmp_path):
    plan = planning.make(ABLATIONS.study(name), ABLATIONS.profile("laptop"), tmp_path)
    first = {trial.cell.key: trial for trial in reversed(plan.trials)}
    assert len(first) == len(plan.cells) >= 4
    seen = {json.dumps(plan.arguments(trial)) for trial in first.values()}
    assert len(seen) == len(first)
    for trial in first.values():
        check(plan.arguments(trial))
    base = yaml.safe_load(plan.base.read_text())
    assert base["data"]["class_path"].startswith("attnlab.data.")


@pytest.mark.parametrize("profile", ON_DISK)
@pytest.mark.parametrize("name", STUDIES)
def test_studies_build_on_data_from_disk(name, profile, tmp_path):
    plan = planning.make(ABLATIONS.study(name), ABLATIONS.profile(profile), tmp_path, tmp_path)
    arguments = plan.arguments(plan.trials[len(plan.cells) - 1])  # the grid's last cell
    assert f"--data.root={tmp_path}" in arguments
    check(arguments)
