"""The identity of cells: a pure function of the stanza that must never change by accident."""

import math
import shlex
from pathlib import Path
from typing import Any

import pytest

from attnlab.ablation import cells
from attnlab.ablation.cells import Result
from attnlab.ablation.errors import UserError
from attnlab.ablation.schema import Axis, Profile, Study


def make_profile(**changes: Any) -> Profile:
    fields: dict[str, Any] = {
        "name": "laptop",
        "about": "",
        "bases": {"lisa": Path("lisa.yaml")},
        "overrides": {"trainer.max_steps": 800},
        "threads_per_cell": 1,
        "gpus_per_cell": 0,
        "minutes_per_cell": 1.0,
    }
    return Profile(**{**fields, **changes})


def make_study(*axes: Axis, **changes: Any) -> Study:
    axes = axes or (numbers("num_rpes", "model.num_rpes", 0, 4),)
    fields: dict[str, Any] = {
        "name": "s",
        "question": "?",
        "base": "lisa",
        "axes": axes,
        "baseline": {axis.name: axis.cells[0][0] for axis in axes},
        "seeds": (0, 7),
        "metric": "test/top1",
        "direction": "maximize",
        "overrides": {},
    }
    return Study(**{**fields, **changes})


def numbers(name: str, key: str, *values: Any) -> Axis:
    return Axis(name, tuple((value, {key: value}) for value in values), numeric=True)


@pytest.mark.parametrize(
    ("name", "metrics", "bad"),
    [
        ("test/top1", {"test/top1": 0.5}, None),
        ("test/top1", {"test/top1": 0.5, "test/loss": 2, "val/loss": None, "loss": None}, None),
        ("test/top1", {"test/top1": None, "test/loss": None}, "test/top1"),
        ("test/top1", {"val/top1": 0.5}, "test/top1"),
        ("test/top1", {"test/top1": 0.1, "test/loss": None}, "test/loss"),
        ("test/top1", {"test/top1": 0.1, "test/loss": math.inf}, "test/loss"),
        ("test/loss", {"test/loss": math.nan}, "test/loss"),
        ("test/loss", {"test/top1": 0.1}, "test/loss"),
        ("top1", {"top1": 0.1, "loss": None}, "loss"),
    ],
)
def test_a_run_failed_whose_metric_or_loss_is_not_finite(
    name: str, metrics: dict[str, float | None], bad: str | None
) -> None:
    assert cells.broken(metrics, name) == bad
    study = make_study(metric=name)
    trial = cells.trials(cells.expand(study, make_profile()), (0,), Path("runs"))[0]
    value = cells.metric(Result(trial, {"metrics": metrics}), study)
    assert value == (None if bad else metrics[name])


def test_keys_are_those_of_every_earlier_version() -> None:
    mixer = {"class_path": "a.B", "init_args": {"heads": 2, "gain": 0.1, "bias": True, "w": None}}
    study = make_study(Axis("mixer", (("B", {"model.mixer": mixer}),), numeric=False))
    assert [cell.key for cell in cells.expand(make_study(), make_profile())] == [
        "317f1e24",
        "d5f38387",
    ]
    assert [cell.key for cell in cells.expand(study, make_profile())] == ["69b26019"]


def test_the_order_of_what_is_written_does_not_matter() -> None:
    here = make_study(
        numbers("a", "x.a", 1, 2), numbers("b", "x.b", 3.5), overrides={"x.c": {"d": 1, "e": 2}}
    )
    there = make_study(
        numbers("b", "x.b", 3.5), numbers("a", "x.a", 2, 1), overrides={"x.c": {"e": 2, "d": 1}}
    )
    one = {cell.key: dict(cell.labels) for cell in cells.expand(here, make_profile())}
    two = {cell.key: dict(cell.labels) for cell in cells.expand(there, make_profile())}
    assert len(one) == 2
    assert one == two
    assert {cell.name for cell in cells.expand(there, make_profile())} == {"a=1,b=3.5", "a=2,b=3.5"}


def test_axes_win_over_the_study_and_the_study_over_the_profile() -> None:
    profile = make_profile(overrides={"a": 1, "b": 1, "c": 1})
    study = make_study(numbers("v", "c", 3), overrides={"b": 2, "c": 2})
    (cell,) = cells.expand(study, profile)
    assert cell.overrides == {"a": 1, "b": 2, "c": 3}


def test_several_axes_are_multiplied() -> None:
    study = make_study(numbers("a", "x.a", 1, 2), numbers("b", "x.b", 3, 4, 5))
    names = [cell.name for cell in cells.expand(study, make_profile())]
    assert names == ["a=1,b=3", "a=1,b=4", "a=1,b=5", "a=2,b=3", "a=2,b=4", "a=2,b=5"]


def test_trials_have_directories_that_any_file_system_takes() -> None:
    labels = ("depth-wise convolution", "../a/b", "x" * 200)
    axis = Axis("op", tuple((label, {"m": label}) for label in labels), numeric=False)
    grid = cells.expand(make_study(axis), make_profile())
    found = cells.trials(grid, (0, 7), Path("runs/s/laptop"))
    names = [trial.run_dir.relative_to("runs/s/laptop").parts for trial in found]
    assert names[0] == (f"op=depth-wise_convolution-{grid[0].key}", "seed0")
    assert names[1] == (f"op=.._a_b-{grid[1].key}", "seed0")
    assert names[2] == (f"op={'x' * 77}-{grid[2].key}", "seed0")
    assert [(str(trial), trial.seed) for trial in found[3:4]] == [
        ("op=depth-wise convolution seed 7", 7)
    ]
    assert len({trial.run_dir for trial in found}) == 6


def test_the_command_line_survives_a_shell() -> None:
    mixer = {"class_path": "a.B", "init_args": {"name": "it's"}}
    axis = Axis("op", (("the $HOME", {"model.mixer": mixer}),), numeric=False)
    profile = make_profile(
        overrides={"a": 1, "b": 0.5, "c": True, "d": None, "e": "none", "f": [1]}
    )
    (trial,) = cells.trials(cells.expand(make_study(axis), profile), (3,), Path("out"))
    arguments = cells.arguments(trial, Path("lisa.yaml"))
    assert arguments == (
        *("fit", "--config", "lisa.yaml", "--run_dir", str(trial.run_dir)),
        *("--seed_everything", "3", "--test_after_fit", "true", "--resume", "true"),
        *("--hparams", '{"op": "the $HOME"}'),
        *("--a=1", "--b=0.5", "--c=true", "--d=null", "--e=none", "--f=[1]"),
        '--model.mixer={"class_path": "a.B", "init_args": {"name": "it\'s"}}',
    )
    line = cells.command_line(arguments, {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""})
    assert shlex.split(line) == [
        *("OMP_NUM_THREADS=2", "CUDA_VISIBLE_DEVICES=", "python", "-m", "attnlab"),
        *arguments,
    ]


@pytest.mark.parametrize(
    ("study", "error"),
    [
        (
            make_study(numbers("a", "x", 1), numbers("b", "x", 2)),
            "study s, cell a=1,b=2: two axes set 'x'",
        ),
        (
            make_study(numbers("a", "x.y", 1), overrides={"x.y.z": 2}),
            "study s, cell a=1: sets both 'x.y' and 'x.y.z' inside it; set one of them",
        ),
        (
            make_study(Axis("a", (("p", {"x": 1}), ("q", {"x": 1})), numeric=False)),
            "study s, cell a=q: it sets the same as cell a=p",
        ),
    ],
)
def test_ambiguous_grids_are_refused(study: Study, error: str) -> None:
    with pytest.raises(UserError) as caught:
        cells.expand(study, make_profile())
    assert str(caught.value) == error


def test_a_key_into_a_list_of_the_base_is_refused() -> None:
    base = {
        "trainer": {"callbacks": [{"class_path": "A"}]},
        "model": {"init_args": {"net": {"depth": 1}}},
    }
    cells.check_path("here", "model.net.depth", base)
    cells.check_path("here", "model.net.new.deep", base)
    cells.check_path("here", "trainer.callbacks", base)
    with pytest.raises(UserError) as caught:
        cells.check_path("here", "trainer.callbacks.init_args.x", base)
    assert str(caught.value) == (
        "here: 'trainer.callbacks.init_args.x' leads into the list 'trainer.callbacks', "
        "which cannot be varied"
    )


def test_a_profile_without_the_base_names_those_it_has() -> None:
    with pytest.raises(UserError) as caught:
        cells.base_of(make_study(base="lsa"), make_profile())
    assert str(caught.value) == (
        "study s, profile laptop: unknown base 'lsa' (did you mean 'lisa'?); allowed: lisa"
    )
