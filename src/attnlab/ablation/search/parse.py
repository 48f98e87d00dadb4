"""Reading the stanza of a search; whatever its schema does not allow is an error of one line."""

import math
from typing import Any, cast

from attnlab.ablation import parse as grids
from attnlab.ablation.checks import choice, count, named, section
from attnlab.ablation.errors import UserError, show
from attnlab.ablation.search.schema import (
    PRUNERS,
    SAMPLERS,
    Dimension,
    Pruner,
    Range,
    Sampler,
    Search,
)

REQUIRED = ("question", "base", "space", "search", "metric")
OPTIONAL = ("overrides", "direction", "extra_metrics", "seeds")


def search(name: str, node: object) -> Search:
    """Return the search that a stanza of this name describes.

    Raises:
        UserError: It breaks the schema.
    """
    where = f"study {name}"
    node = section(where, node, REQUIRED, OPTIONAL)
    study = grids.study_of(name, {"seeds": [0], **node}, axes=(), baseline={})
    if study.metric.startswith("test/"):
        raise UserError(
            f"{where}: metric {study.metric!r}: what a search is to choose by must be no test "
            "metric; choose by one of val/ and show the other as one of extra_metrics"
        )
    if len(study.seeds) > 1:
        raise UserError(f"{where}: seeds: a search runs each trial with one seed, not with several")
    how = section(f"{where}: search", node["search"], ("trials",), ("sampler", "pruner", "seed"))
    return Search(
        study=study,
        space=tuple(
            _dimension(f"{where}, space {key}", key, dimension)
            for key, dimension in named(f"{where}: space", node["space"]).items()
        ),
        trials=count(f"{where}: search: trials", how["trials"], 1),
        sampler=cast(
            Sampler, choice(f"{where}: search: sampler", how.get("sampler", "tpe"), SAMPLERS)
        ),
        pruner=cast(Pruner, choice(f"{where}: search: pruner", how.get("pruner", "none"), PRUNERS)),
        seed=count(f"{where}: search: seed", how.get("seed", 0), 0),
    )


def _dimension(where: str, name: str, node: object) -> Dimension:
    if isinstance(node, dict) and "values" in node:
        return grids.axis_of(where, name, node)
    node = section(where, node, ("key", "low", "high"), ("log", "step"))
    low, high = (_number(f"{where}: {side}", node[side]) for side in ("low", "high"))
    if not low < high:
        raise UserError(f"{where}: low must be below high, not {show(low)} and {show(high)}")
    log = node.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"{where}: log must be true or false, not {show(log)}")
    if log and low <= 0:
        raise UserError(f"{where}: with log, low must be positive, not {show(low)}")
    step = node.get("step")
    if step is not None:
        _check_step(where, low, high, log, step)
    grids.overrides(where, {node["key"]: low})
    if not type(low) is type(high) is int:
        low, high = float(low), float(high)
    return Range(name, node["key"], low, high, log, step)


def _check_step(where: str, low: float, high: float, log: bool, step: Any) -> None:
    if log:
        raise UserError(f"{where}: log and step exclude each other")
    if not 0 < _number(f"{where}: step", step) <= high - low:
        raise UserError(f"{where}: step must be positive and fit the range, not {show(step)}")
    if type(low) is type(high) is int and type(step) is not int:
        raise UserError(f"{where}: step must be an integer as low and high are, not {show(step)}")
    steps = (high - low) / step
    if abs(steps - round(steps)) > 1e-8:
        raise UserError(f"{where}: high must be low and a whole number of steps, not {show(high)}")


def _number(where: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise UserError(f"{where} must be a number, not {show(value)}")
    return cast(float, value)
