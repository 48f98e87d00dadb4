"""Reading `ablations.yaml`; whatever the schema does not allow is an error of one line."""

import math
import re
from pathlib import Path
from typing import Any

from attnlab.ablation import cells, strict_yaml
from attnlab.ablation.checks import count, named, section, text
from attnlab.ablation.errors import UserError, show, unknown
from attnlab.ablation.schema import (
    BUDGET_UNITS,
    DRIVER_KEYS,
    Ablations,
    Axis,
    Budget,
    Label,
    Profile,
    Study,
)
from attnlab.ablation.slurm import settings

PROFILE_OPTIONS = (
    *("overrides", "threads_per_cell", "gpus_per_cell", "nodes_per_cell"),
    *("budget", "time_limit_minutes", "slurm"),
)
"""Keys that a profile may leave out."""


def load(path: Path) -> Ablations:
    """Read and check a file of ablations.

    Raises:
        UserError: The file breaks the schema; the message is one line that names the place, the
            value and what is allowed.
    """
    from attnlab.ablation.search.parse import search  # which itself builds on this module

    try:
        root = section("the file", strict_yaml.load(path), ("profiles", "studies"))
        profiles = named("profiles", root["profiles"])
        studies = named("studies", root["studies"])
        spaces = {
            name for name, node in studies.items() if isinstance(node, dict) and "space" in node
        }
        return Ablations(
            path,
            {name: _profile(name, node, path.parent) for name, node in profiles.items()},
            {name: _study(name, node) for name, node in studies.items() if name not in spaces},
            {name: search(name, node) for name, node in studies.items() if name in spaces},
        )
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _minutes(where: str, value: object) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:  # type: ignore[operator]
        raise UserError(f"{where} must be a positive number of minutes, not {show(value)}")
    return float(value)  # type: ignore[arg-type]


def _profile(name: str, node: object, folder: Path) -> Profile:
    where = f"profile {name}"
    node = section(where, node, ("about", "bases", "minutes_per_cell"), PROFILE_OPTIONS)
    bases = named(f"{where}: bases", node["bases"])
    own = overrides(f"{where}: overrides", node.get("overrides", {}))
    limited = budget(where, node["budget"]) if "budget" in node else None
    if limited is not None:
        cells.check_budget(f"{where}: overrides", own, limited, name)
        own = {**own, **limited.overrides}
    limit = None
    if "time_limit_minutes" in node:
        limit = _minutes(f"{where}: time_limit_minutes", node["time_limit_minutes"])
    slurm = node.get("slurm", {})
    settings.parse(f"{where}: slurm", slurm)  # so that what is wrong is said by every command
    return Profile(
        name=name,
        about=text(f"{where}: about", node["about"]),
        bases={key: folder / text(f"{where}: base {key}", path) for key, path in bases.items()},
        overrides=own,
        threads_per_cell=count(f"{where}: threads_per_cell", node.get("threads_per_cell", 1), 1),
        gpus_per_cell=count(f"{where}: gpus_per_cell", node.get("gpus_per_cell", 0), 0),
        minutes_per_cell=_minutes(f"{where}: minutes_per_cell", node["minutes_per_cell"]),
        budget=limited,
        time_limit_minutes=limit,
        nodes_per_cell=count(f"{where}: nodes_per_cell", node.get("nodes_per_cell", 1), 1),
        slurm=slurm,
    )


def budget(where: str, node: object) -> Budget:
    """Return a budget, written as a mapping of its one unit to its amount.

    Raises:
        UserError: It names another unit, none, or several, or its amount is out of range.
    """
    allowed = ", ".join(BUDGET_UNITS)
    if not isinstance(node, dict) or len(node) != 1:
        raise UserError(f"{where}: budget must map one of {allowed} to a number, not {show(node)}")
    ((unit, amount),) = node.items()
    if unit not in BUDGET_UNITS:
        raise UserError(f"{where}: {unknown('budget', unit, BUDGET_UNITS)}")
    if unit != "minutes":
        return Budget(unit, count(f"{where}: budget of {unit}", amount, 1))
    minutes = _minutes(f"{where}: budget of minutes", amount)
    if not 1 <= round(minutes * 60) < 100 * 86400:
        raise UserError(
            f"{where}: budget of minutes must be from a second to under 100 days, "
            f"not {show(amount)} minutes"
        )
    return Budget("minutes", minutes)


def _study(name: str, node: object) -> Study:
    where = f"study {name}"
    if isinstance(node, dict) and (of_search := {"search", "sampler", "pruner"} & node.keys()):
        raise UserError(
            f"{where}: {sorted(of_search)[0]!r} belongs to a search, which has 'space' instead of "
            "'axes'; a grid measures all of its cells, and prunes none"
        )
    required = ("question", "base", "axes", "baseline", "seeds", "metric")
    node = section(where, node, required, ("overrides", "direction", "extra_metrics"))
    axes = tuple(
        axis_of(f"{where}, axis {key}", key, axis)
        for key, axis in named(f"{where}: axes", node["axes"]).items()
    )
    return study_of(name, node, axes, _baseline(where, node["baseline"], axes))


def study_of(
    name: str, node: dict[str, Any], axes: tuple[Axis, ...], baseline: dict[str, Label]
) -> Study:
    """Return a study with `axes`, and what else its stanza says as every stanza does.

    Raises:
        UserError: It breaks the schema.
    """
    where = f"study {name}"
    metric = _metric(where, text(f"{where}: metric", node["metric"]))
    direction = node.get("direction", "maximize")
    if direction not in ("maximize", "minimize"):
        raise UserError(f"{where}: {unknown('direction', direction, ('maximize', 'minimize'))}")
    return Study(
        name=name,
        question=text(f"{where}: question", node["question"]),
        base=text(f"{where}: base", node["base"]),
        axes=axes,
        baseline=baseline,
        seeds=_seeds(f"{where}: seeds", node["seeds"]),
        metric=metric,
        direction=direction,
        overrides=overrides(f"{where}: overrides", node.get("overrides", {})),
        extra_metrics=_extra_metrics(where, node.get("extra_metrics", []), metric),
    )


def _metric(where: str, tag: str) -> str:
    if not re.fullmatch(r"(train|val|test|perf|model|diag)/[\w/]+", tag):
        raise UserError(f"{where}: metric {tag!r} is none; write it like 'test/top1'")
    return tag


def _extra_metrics(where: str, node: object, metric: str) -> tuple[str, ...]:
    if not isinstance(node, list):
        raise UserError(f"{where}: extra_metrics must be a list of metrics, not {show(node)}")
    extra = [_metric(where, text(f"{where}: each of extra_metrics", tag)) for tag in node]
    for index, tag in enumerate(extra):
        if tag in (metric, *extra[:index]):
            raise UserError(f"{where}: extra_metrics: {tag!r} is shown twice")
    return tuple(extra)


def axis_of(where: str, name: str, node: object) -> Axis:
    """Return an axis, whose values are a list or a mapping from labels.

    Raises:
        UserError: It breaks the schema.
    """
    node = section(where, node, ("values",), ("key",))
    values = node["values"]
    if isinstance(values, list):
        if "key" not in node:
            raise UserError(f"{where}: a list of values needs a 'key' that they are set to")
        pairs = [(value, value) for value in values]
    elif isinstance(values, dict):
        pairs = list(values.items())
    else:
        raise UserError(f"{where}: values must be a list or a mapping, not {show(values)}")
    labels = [label for label, _ in pairs]
    _check_labels(where, labels)
    points = []
    for label, value in pairs:
        at = f"{where}, value {show(label)}"
        if "key" not in node and not isinstance(value, dict):
            raise UserError(f"{at}: without a 'key' it must map dotted keys to values")
        points.append((label, overrides(at, {node["key"]: value} if "key" in node else value)))
    return Axis(name, tuple(points), numeric=not isinstance(labels[0], str | bool))


def _check_labels(where: str, labels: list[Any]) -> None:
    """Refuse what cannot be an axis: nothing, containers, a mixture of types, duplicates."""
    if not labels:
        raise UserError(f"{where}: at least one value is needed")
    kinds: dict[type, object] = {}
    for label in labels:
        if not isinstance(label, Label) or (isinstance(label, float) and not math.isfinite(label)):
            raise UserError(
                f"{where}: value {show(label)} must be a number, a text or a boolean; "
                "anything else needs a label (values: {label: value})"
            )
        kinds.setdefault(float if type(label) is int else type(label), label)
    if len(kinds) > 1:
        mixture = ", ".join(f"{show(label)} ({type(label).__name__})" for label in kinds.values())
        raise UserError(f"{where}: all values must be of one type, not {mixture}")
    for index, label in enumerate(labels):
        if label in labels[:index]:
            raise UserError(f"{where}: value {show(label)} appears twice")


def _baseline(where: str, node: object, axes: tuple[Axis, ...]) -> dict[str, Label]:
    baseline = section(f"{where}: baseline", node, tuple(axis.name for axis in axes))
    for axis in axes:
        labels = [label for label, _ in axis.cells]
        value = baseline[axis.name]
        if value not in labels or isinstance(value, bool) != isinstance(labels[0], bool):
            choice = ", ".join(map(str, labels))
            named = f"{where}: baseline {axis.name}={show(value)}"
            raise UserError(f"{named} is outside the grid; allowed: {choice}")
    return baseline


def _seeds(where: str, node: object) -> tuple[int, ...]:
    if not isinstance(node, list) or not node:
        raise UserError(f"{where} must be a list with at least one seed, not {show(node)}")
    for index, seed in enumerate(node):
        count(f"{where}: each", seed, 0)
        if seed in node[:index]:
            raise UserError(f"{where}: {seed} appears twice")
    return tuple(node)


def overrides(where: str, node: object) -> dict[str, object]:
    """Return a mapping from dotted keys to values that JSON can hold."""
    if not isinstance(node, dict):
        raise UserError(f"{where} must map dotted keys to values, not {show(node)}")
    for key, value in node.items():
        if not isinstance(key, str) or not re.fullmatch(r"[a-zA-Z_]\w*(\.[a-zA-Z_]\w*)*", key):
            raise UserError(
                f"{where}: {show(key)} is no dotted key; it is made of names joined by dots "
                "(an entry of a list cannot be varied)"
            )
        if key.split(".")[0] in DRIVER_KEYS:
            raise UserError(f"{where}: {key!r} is set by the driver")
        if not _is_plain(value):
            raise UserError(
                f"{where}: {key} = {show(value)} is neither plain nor made of plain values"
            )
    return node


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int | bool)
