"""Every way to get `ablations.yaml` wrong is one line that names the place and what is allowed."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from attnlab.ablation import cells, parse
from attnlab.ablation.errors import UserError
from attnlab.ablation.schema import Axis
from tests.ablation.conftest import STANZAS

ROOT = Path(__file__).parents[2]


def load(tmp_path: Path, stanzas: Any) -> Any:
    path = tmp_path / "a.yaml"
    path.write_text(
        stanzas if isinstance(stanzas, str) else yaml.safe_dump(stanzas, sort_keys=False)
    )
    return parse.load(path)


def edit(*path: str, value: Any = None, remove: bool = False) -> Callable[[Any], None]:
    """Return a function that sets or removes one entry of nested mappings."""

    def apply(stanzas: Any) -> None:
        for key in path[:-1]:
            stanzas = stanzas[key]
        if remove:
            del stanzas[path[-1]]
        else:
            stanzas[path[-1]] = value

    return apply


def study(*path: str, value: Any = None, remove: bool = False) -> Callable[[Any], None]:
    return edit("studies", "value", *path, value=value, remove=remove)


def values(value: Any) -> Callable[[Any], None]:
    return study("axes", "value", "values", value=value)


def profile(*path: str, value: Any = None) -> Callable[[Any], None]:
    return edit("profiles", "laptop", *path, value=value)


AXIS = "study value, axis value: "
ERRORS: list[tuple[Callable[[Any], None], str]] = [
    (
        edit("studys", value={}),
        "the file: unknown key 'studys' (did you mean 'studies'?); allowed: profiles, studies",
    ),
    (edit("profiles", remove=True), "the file: key 'profiles' is missing"),
    (
        edit("studies", value={}),
        "studies must be a mapping with at least one entry, not {}",
    ),
    (
        edit("studies", "a/b", value={}),
        "studies: 'a/b' is no name; use letters, digits and _ . + -",
    ),
    (
        study("seed", value=[1]),
        "study value: unknown key 'seed' (did you mean 'seeds'?); allowed: question, base, axes, "
        "baseline, seeds, metric, overrides, direction, extra_metrics",
    ),
    (study("metric", remove=True), "study value: key 'metric' is missing"),
    (
        study("metric", value="top1"),
        "study value: metric 'top1' is none; write it like 'test/top1'",
    ),
    (
        study("extra_metrics", value="diag/cka"),
        "study value: extra_metrics must be a list of metrics, not 'diag/cka'",
    ),
    (
        study("extra_metrics", value=["cka"]),
        "study value: metric 'cka' is none; write it like 'test/top1'",
    ),
    (
        study("extra_metrics", value=[3]),
        "study value: each of extra_metrics must be a text, not 3",
    ),
    (
        study("extra_metrics", value=["diag/cka", "val/top1", "diag/cka"]),
        "study value: extra_metrics: 'diag/cka' is shown twice",
    ),
    (
        study("extra_metrics", value=["test/top1"]),
        "study value: extra_metrics: 'test/top1' is shown twice",
    ),
    (
        study("direction", value="up"),
        "study value: unknown direction 'up'; allowed: maximize, minimize",
    ),
    (study("question", value=" "), "study value: question must be a text, not ' '"),
    (
        study("axes", "value", "key", remove=True),
        AXIS + "a list of values needs a 'key' that they are set to",
    ),
    (
        study("axes", "value", "keys", value="x"),
        AXIS + "unknown key 'keys' (did you mean 'key'?); allowed: values, key",
    ),
    (values([]), AXIS + "at least one value is needed"),
    (values(7), AXIS + "values must be a list or a mapping, not 7"),
    (values([0, 1, "two"]), AXIS + "all values must be of one type, not 0 (int), 'two' (str)"),
    (values([1, True]), AXIS + "all values must be of one type, not 1 (int), True (bool)"),
    (
        values([1, [2]]),
        AXIS + "value [2] must be a number, a text or a boolean; "
        "anything else needs a label (values: {label: value})",
    ),
    (
        values([1, None]),
        AXIS + "value None must be a number, a text or a boolean; "
        "anything else needs a label (values: {label: value})",
    ),
    (
        values([1.0, float("nan")]),
        AXIS + "value nan must be a number, a text or a boolean; "
        "anything else needs a label (values: {label: value})",
    ),
    (values([0, 1, 1.0]), AXIS + "value 1.0 appears twice"),
    (
        study("axes", value={"value": {"values": {1: 3}}}),
        AXIS.replace(": ", ", ") + "value 1: without a 'key' it must map dotted keys to values",
    ),
    (
        study("axes", "value", "key", value="trainer.callbacks.0.depth"),
        "study value, axis value, value 0: 'trainer.callbacks.0.depth' is no dotted key; it is "
        "made of names joined by dots (an entry of a list cannot be varied)",
    ),
    (
        study("axes", "value", "key", value="seed_everything"),
        "study value, axis value, value 0: 'seed_everything' is set by the driver",
    ),
    (
        study("baseline", value={"value": 4}),
        "study value: baseline value=4 is outside the grid; allowed: 0, 1",
    ),
    (
        study("baseline", value={"value": True}),
        "study value: baseline value=True is outside the grid; allowed: 0, 1",
    ),
    (
        study("baseline", value={"valeu": 1}),
        "study value: baseline: unknown key 'valeu' (did you mean 'value'?); allowed: value",
    ),
    (study("baseline", value={}), "study value: baseline: key 'value' is missing"),
    (
        study("seeds", value=[]),
        "study value: seeds must be a list with at least one seed, not []",
    ),
    (study("seeds", value=3), "study value: seeds must be a list with at least one seed, not 3"),
    (
        study("seeds", value=[0, -1]),
        "study value: seeds: each must be an integer of at least 0, not -1",
    ),
    (
        study("seeds", value=[0, "1"]),
        "study value: seeds: each must be an integer of at least 0, not '1'",
    ),
    (study("seeds", value=[2, 2]), "study value: seeds: 2 appears twice"),
    (
        study("overrides", value={"data.size": float("inf")}),
        "study value: overrides: data.size = inf is neither plain nor made of plain values",
    ),
    (
        profile("minutes_per_cell", value=0),
        "profile laptop: minutes_per_cell must be a positive number of minutes, not 0",
    ),
    (
        profile("threads_per_cell", value=0),
        "profile laptop: threads_per_cell must be an integer of at least 1, not 0",
    ),
    (
        profile("gpus_per_cell", value=-1),
        "profile laptop: gpus_per_cell must be an integer of at least 0, not -1",
    ),
    (
        profile("bases", value={"fake": 3}),
        "profile laptop: base fake must be a text, not 3",
    ),
    (
        profile("overrides", value=["x"]),
        "profile laptop: overrides must map dotted keys to values, not ['x']",
    ),
]


@pytest.mark.parametrize(("change", "error"), ERRORS, ids=[error for _, error in ERRORS])
def test_bad_stanzas_are_named(tmp_path: Path, change: Callable[[Any], None], error: str) -> None:
    stanzas = copy.deepcopy(STANZAS)
    change(stanzas)
    with pytest.raises(UserError) as caught:
        load(tmp_path, stanzas)
    assert str(caught.value) == f"{tmp_path}/a.yaml: {error}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("profiles:\n  a: [1\nstudies: 3\n", ", line 3: expected ',' or ']', but got ':'"),
        ("profiles: {}\nstudies: {}\nprofiles: {}\n", ", line 3: duplicate key 'profiles'"),
        ("a: {b: {c: 1,\n c: 2}}\n", ", line 2: duplicate key 'c'"),
        ("profiles: \x07\n", ": unacceptable character #x0007: special characters are not allowed"),
        ("- 1\n", ": the file must be a mapping, not [1]"),
        ("", ": the file must be a mapping, not None"),
    ],
)
def test_malformed_yaml_is_one_line(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/a.yaml{error}")
    assert "\n" not in str(caught.value)


def test_values_and_defaults_are_what_was_written(tmp_path: Path) -> None:
    stanzas = yaml.safe_dump(STANZAS).replace("- 0\n        - 1", "- 1e-3\n        - 2e-3", 1)
    stanzas = stanzas.replace("value: 1", "value: 1e-3")
    ablations = load(tmp_path, stanzas)
    read = ablations.study("value")
    assert read.axes == (
        Axis("value", ((1e-3, {"model.value": 1e-3}), (2e-3, {"model.value": 2e-3})), True),
    )
    assert (read.seeds, read.direction, read.overrides) == ((0, 1), "maximize", {})
    assert read.extra_metrics == ()
    laptop = ablations.profile("laptop")
    assert laptop.bases == {"fake": tmp_path / "base.yaml"}
    assert (laptop.threads_per_cell, laptop.gpus_per_cell) == (1, 0)


def test_what_is_shown_does_not_change_what_is_run(tmp_path: Path) -> None:
    plain = load(tmp_path, STANZAS)
    stanzas = copy.deepcopy(STANZAS)
    stanzas["studies"]["value"]["extra_metrics"] = ["diag/cka", "perf/images_per_s"]
    richer = load(tmp_path, stanzas)
    assert richer.study("value").extra_metrics == ("diag/cka", "perf/images_per_s")
    keys = [
        [cell.key for cell in cells.expand(each.study("value"), each.profile("laptop"))]
        for each in (plain, richer)
    ]
    assert keys[0] == keys[1]


def test_labels_stand_for_one_value_or_for_several(tmp_path: Path) -> None:
    stanzas = copy.deepcopy(STANZAS)
    axes = stanzas["studies"]["value"]["axes"]
    axes["value"] = {"values": {3: {"model.kernel": 3, "model.pad": 1}, 5: {"model.kernel": 5}}}
    axes["mixer"] = {"key": "model.mixer", "values": {"none": None, "big": {"class_path": "a.B"}}}
    stanzas["studies"]["value"]["baseline"] = {"value": 3, "mixer": "none"}
    read = load(tmp_path, stanzas).study("value").axes
    assert [(axis.name, axis.numeric) for axis in read] == [("value", True), ("mixer", False)]
    assert read[0].cells[0] == (3, {"model.kernel": 3, "model.pad": 1})
    assert read[1].cells == (
        ("none", {"model.mixer": None}),
        ("big", {"model.mixer": {"class_path": "a.B"}}),
    )


def test_the_studies_of_the_project_make_sense_in_every_profile() -> None:
    ablations = parse.load(ROOT / "ablations.yaml")
    sizes = {
        name: len(cells.expand(study, profile)) * len(study.seeds)
        for name, study in ablations.studies.items()
        for profile in ablations.profiles.values()
        if study.base in profile.bases and cells.base_of(study, profile)
    }
    assert sizes == {
        "rpe_count": 15,
        "fft_approximation": 18,
        "window_size": 15,
        "query_count": 20,
        "operator": 18,
    }
    assert list(ablations.profiles) == ["laptop", "clutter", "cifar", "imagenet", "ssv2"]
    with pytest.raises(UserError, match="clutter"):  # which has no QnA base
        cells.base_of(ablations.study("window_size"), ablations.profile("clutter"))
