"""The stanza of a search is read as it is meant, or refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from attnlab.ablation import parse
from attnlab.ablation.errors import UserError
from attnlab.ablation.schema import Axis
from attnlab.ablation.search.schema import Range, Search

STANZA = """
question: Which?
base: fake
space:
  lr: {key: model.lr, low: 1e-4, high: 1e-2, log: true}
  depth: {key: model.depth, low: 2, high: 6}
  dropout: {key: model.dropout, low: 0, high: 0.5, step: 0.1}
  op: {key: model.op, values: [none, fft]}
search: {trials: 40, pruner: median}
metric: val/top1
"""
PROFILES = {"laptop": {"about": "x", "bases": {"fake": "base.yaml"}, "minutes_per_cell": 1}}


def load(tmp_path: Path, stanza: Any) -> Search:
    path = tmp_path / "ablations.yaml"
    path.write_text(yaml.safe_dump({"profiles": PROFILES, "studies": {"s": stanza}}))
    return parse.load(path).searches["s"]


def stanza() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(STANZA)
    found["space"]["lr"] |= {"low": 1e-4, "high": 1e-2}
    return found


def test_a_space_makes_a_search(tmp_path: Path) -> None:
    path = tmp_path / "ablations.yaml"
    head = yaml.safe_dump({"profiles": PROFILES})
    path.write_text(head + "studies:\n  s:" + STANZA.replace("\n", "\n    "))
    ablations = parse.load(path)
    assert not ablations.studies
    found = ablations.searches["s"]
    assert found.space == (
        Range("lr", "model.lr", 1e-4, 1e-2, log=True, step=None),
        Range("depth", "model.depth", 2, 6, log=False, step=None),
        Range("dropout", "model.dropout", 0.0, 0.5, log=False, step=0.1),
        Axis("op", (("none", {"model.op": "none"}), ("fft", {"model.op": "fft"})), numeric=False),
    )
    assert isinstance(found.space[1], Range)
    assert type(found.space[1].low) is int
    assert (found.trials, found.sampler, found.pruner, found.seed) == (40, "tpe", "median", 0)
    assert found.study.seeds == (0,)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("metric", "test/top1", "must be no test metric"),
        ("seeds", [0, 1], "one seed"),
        ("axes", {}, "unknown key 'axes'"),
        ("search/trials", 0, "search: trials must be an integer of at least 1, not 0"),
        ("search/sampler", "grid", "sampler must be one of tpe, random, not 'grid'"),
        ("search/pruner", "asha", "pruner must be one of none, median, hyperband, not 'asha'"),
        ("search/n", 3, "unknown key 'n'"),
        ("space", {}, "at least one entry"),
        ("space/lr/low", 0.1, "low must be below high, not 0.1 and 0.01"),
        ("space/lr/low", 0, "with log, low must be positive, not 0"),
        ("space/lr/low", "a", "low must be a number, not 'a'"),
        ("space/lr/step", 0.1, "log and step exclude each other"),
        ("space/lr/key", "seed_everything", "'seed_everything' is set by the driver"),
        ("space/depth/step", 0.5, "step must be an integer"),
        ("space/depth/step", 5, "step must be positive and fit the range, not 5"),
        ("space/op/low", 1, "unknown key 'low'"),
    ],
)
def test_bad_searches_are_named(tmp_path: Path, place: str, value: Any, message: str) -> None:
    node = root = stanza()
    *path, last = place.split("/")
    for key in path:
        node = node[key]
    node[last] = value
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path, root)
    assert "study s" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["search", "pruner", "sampler"])
def test_a_grid_has_no_pruner(tmp_path: Path, key: str) -> None:
    grid = {name: each for name, each in stanza().items() if name not in ("space", "search")}
    grid |= {
        "axes": {"depth": {"key": "model.depth", "values": [1, 2]}},
        "baseline": {"depth": 1},
        "seeds": [0],
        key: "median",
    }
    with pytest.raises(UserError, match=rf"study s: '{key}' belongs to a search.*prunes none"):
        load(tmp_path, grid)
