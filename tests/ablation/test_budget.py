"""How long every trial of a profile trains, said once, and the other keys of a profile."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from attnlab.ablation import cells, parse
from attnlab.ablation.adapt import adapt
from attnlab.ablation.errors import UserError
from attnlab.ablation.schema import Ablations, Budget
from tests.ablation.conftest import STANZAS, Lab


def load(tmp_path: Path, **keys: Any) -> Ablations:
    stanzas = copy.deepcopy(STANZAS)
    laptop = stanzas["profiles"]["laptop"]
    laptop["overrides"] = {"trainer.precision": 32}
    laptop.update(keys)
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(stanzas, sort_keys=False))
    return parse.load(path)


@pytest.mark.parametrize(
    ("budget", "sets"),
    [
        ({"epochs": 3}, {"trainer.max_epochs": 3, "trainer.max_steps": -1}),
        ({"steps": 7}, {"trainer.max_epochs": -1, "trainer.max_steps": 7}),
        ({"minutes": 90}, {"trainer.max_time": "00:01:30:00"}),
        ({"minutes": 0.05}, {"trainer.max_time": "00:00:00:03"}),
        ({"minutes": 2 * 1440 + 61.5}, {"trainer.max_time": "02:01:01:30"}),
        ({"samples": 50_000}, {"max_samples": 50_000}),
    ],
)
def test_a_budget_is_set_in_every_cell(tmp_path: Path, budget: Any, sets: Any) -> None:
    ablations = load(tmp_path, budget=budget)
    profile = ablations.profile("laptop")
    grid = cells.expand(ablations.study("value"), profile)
    assert [cell.overrides for cell in grid] == [
        {"trainer.precision": 32, **sets, "model.value": value} for value in (0, 1)
    ]
    assert str(profile.budget) == "{:g} {}".format(*next((n, u) for u, n in budget.items()))


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (
            {"budget": {"epochs": 1, "steps": 2}},
            "budget must map one of epochs, steps, minutes, samples to a number, "
            "not {'epochs': 1, 'steps': 2}",
        ),
        ({"budget": 800}, "budget must map one of epochs, steps, minutes, samples to a number"),
        ({"budget": {"step": 1}}, "unknown budget 'step' (did you mean 'steps'?); allowed: epochs"),
        ({"budget": {"steps": 0}}, "budget of steps must be an integer of at least 1, not 0"),
        ({"budget": {"epochs": 1.5}}, "budget of epochs must be an integer of at least 1, not 1.5"),
        ({"budget": {"minutes": -1}}, "budget of minutes must be a positive number of minutes"),
        ({"budget": {"minutes": 0.001}}, "budget of minutes must be from a second to under 100"),
        (
            {"budget": {"steps": 5}, "overrides": {"trainer.max_epochs": 2}},
            "overrides: 'trainer.max_epochs' clashes with the budget of profile laptop (5 steps); "
            "say once how long to train",
        ),
        ({"overrides": {"max_samples": 2}}, "overrides: 'max_samples' is set by the driver"),
        ({"time_limit_minutes": 0}, "time_limit_minutes must be a positive number of minutes"),
        ({"time_limit_minutes": None}, "time_limit_minutes must be a positive number of minutes"),
        ({"nodes_per_cell": 0}, "nodes_per_cell must be an integer of at least 1, not 0"),
        ({"slurm": "gpu"}, "slurm must be a mapping, not 'gpu'"),
        (
            {"slurm": {"partitoin": "a"}},
            "slurm: unknown key 'partitoin' (did you mean 'partition'?)",
        ),
    ],
)
def test_what_is_out_of_range_is_said_in_one_line(tmp_path: Path, keys: Any, error: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, **keys)
    assert str(caught.value).startswith(f"{tmp_path}/a.yaml: profile laptop: {error}")
    assert "\n" not in str(caught.value)


def test_the_other_keys_have_their_defaults(tmp_path: Path) -> None:
    plain = load(tmp_path).profile("laptop")
    assert (plain.budget, plain.time_limit_minutes, plain.nodes_per_cell) == (None, None, 1)
    keys = {"time_limit_minutes": 30, "nodes_per_cell": 2}
    full = load(tmp_path, **keys).profile("laptop")
    assert (full.time_limit_minutes, full.nodes_per_cell) == (30.0, 2)


@pytest.mark.parametrize("place", ["overrides", "axis"])
def test_a_study_cannot_say_otherwise(tmp_path: Path, place: str) -> None:
    ablations = load(tmp_path, budget={"samples": 5})
    path = tmp_path / "a.yaml"
    stanzas = yaml.safe_load(path.read_text())
    if place == "axis":
        stanzas["studies"]["value"]["axes"]["value"]["key"] = "trainer.max_steps"
    else:
        stanzas["studies"]["value"]["overrides"] = {"trainer.max_steps": 5}
    path.write_text(yaml.safe_dump(stanzas))
    study = parse.load(path).study("value")
    with pytest.raises(UserError) as caught:
        cells.expand(study, ablations.profile("laptop"))
    assert str(caught.value) == (
        "study value: 'trainer.max_steps' clashes with the budget of profile laptop (5 samples); "
        "say once how long to train"
    )


def test_another_budget_takes_the_place_of_all_limits(tmp_path: Path) -> None:
    ablations = load(tmp_path, overrides={"trainer.max_epochs": 3, "a": 1})
    profile, study = ablations.profile("laptop"), ablations.study("value")
    short = adapt(profile, study, ["a=2"], None, "steps=5")
    assert short.overrides == {"trainer.max_epochs": -1, "trainer.max_steps": 5, "a": 2}
    assert short.budget == Budget("steps", 5)
    longer = adapt(short, study, [], None, "minutes=1.5")
    assert longer.overrides == {"trainer.max_time": "00:00:01:30", "a": 2}
    with pytest.raises(UserError, match=r"--set trainer.max_time=1: 'trainer.max_time' clashes"):
        adapt(short, study, ["trainer.max_time=1"], None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("5", "--budget takes UNIT=AMOUNT, such as steps=800, not '5'"),
        ("steps=[", "--budget takes UNIT=AMOUNT, such as steps=800, not 'steps=['"),
        ("step=5", "--budget: unknown budget 'step' (did you mean 'steps'?); allowed: epochs"),
        ("steps=x", "--budget: budget of steps must be an integer of at least 1, not 'x'"),
    ],
)
def test_what_is_no_budget_is_said_in_one_line(lab: Lab, text: str, error: str) -> None:
    code, out, err = lab.call("--dry-run", "--budget", text)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"run_ablation: error: {error}")
