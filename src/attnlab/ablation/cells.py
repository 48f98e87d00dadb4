"""From a stanza to trials: (study, profile, cell, seed) is a pure function of `ablations.yaml`."""

import hashlib
import itertools
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlab.ablation.errors import UserError, unknown
from attnlab.ablation.schema import BUDGET_KEYS, Budget, Label, Overrides, Profile, Study


@dataclass(frozen=True)
class Cell:
    """One point of a study's grid.

    Attributes:
        labels: Axis name to the label of this cell.
        overrides: Everything that is set over the base experiment: profile, study and axes.
        key: Eight hexadecimal digits that identify the overrides, whatever their order.
        name: The labels for people, such as ``num_rpes=4``.
    """

    study: str
    profile: str
    labels: Mapping[str, Label]
    overrides: Overrides
    key: str
    name: str


@dataclass(frozen=True)
class Trial:
    """A cell with a seed, and the directory where its one run lives."""

    cell: Cell
    seed: int
    run_dir: Path

    def __str__(self) -> str:
        return f"{self.cell.name} seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """A finished trial.

    Attributes:
        record: What its `result.json` says.
        wall_s: Seconds from the start to the end of its process, where a driver measured them.
        workers: Trials that driver ran at a time.
    """

    trial: Trial
    record: Mapping[str, Any]
    wall_s: float | None = None
    workers: int | None = None


def broken(metrics: Mapping[str, float | None], name: str) -> str | None:
    """Return the metric that shows that a run failed, or None where the run is sound.

    That is the metric `name` where it is missing or not finite, or else a loss of the same stage
    that is not finite: a network that gives NaN always picks the same class, and scores as chance.

    Args:
        metrics: What the run logged; None stands for what is not finite.
        name: The study's metric, such as ``test/top1``; its loss is ``test/loss``.
    """
    loss = f"{name[: name.rfind('/') + 1]}loss"
    values = {loss: metrics.get(loss, 0.0), name: metrics.get(name)}
    return next((each for each in (name, loss) if not _is_finite(values[each])), None)


def metric(result: Result, study: Study) -> float | None:
    """Return the value of the study's metric, or None where the run failed (`broken`)."""
    metrics = result.record["metrics"]
    return None if broken(metrics, study.metric) else float(metrics[study.metric])


def base_of(study: Study, profile: Profile) -> Path:
    """Return the file of the study's base experiment in `profile`."""
    if study.base not in profile.bases:
        where = f"study {study.name}, profile {profile.name}"
        raise UserError(f"{where}: {unknown('base', study.base, profile.bases)}")
    return profile.bases[study.base]


def study_dir(output_dir: Path, study: Study, profile: Profile) -> Path:
    """Return the directory of all trials of `study` in `profile`."""
    return output_dir / study.name / profile.name


def expand(study: Study, profile: Profile) -> tuple[Cell, ...]:
    """Return the product of the study's axes, the last axis running fastest.

    Raises:
        UserError: A cell sets one key twice, or a key and something inside it, so that the outcome
            would depend on the order; two cells set the same; or one says how long to train
            although the profile has a budget.
    """
    if profile.budget is not None:
        points = (overrides for axis in study.axes for _, overrides in axis.cells)
        given = set(study.overrides).union(*points)
        check_budget(f"study {study.name}", given, profile.budget, profile.name)
    common = {**profile.overrides, **study.overrides}
    cells: dict[str, Cell] = {}
    for point in itertools.product(*(axis.cells for axis in study.axes)):
        labels = {axis.name: label for axis, (label, _) in zip(study.axes, point, strict=True)}
        name = ",".join(f"{axis}={label}" for axis, label in sorted(labels.items()))
        where = f"study {study.name}, cell {name}"
        varied: dict[str, object] = {}
        for _, overrides in point:
            if twice := sorted(varied.keys() & overrides.keys()):
                raise UserError(f"{where}: two axes set {twice[0]!r}")
            varied.update(overrides)
        merged = {**common, **varied}
        _check_nesting(where, merged)
        key = hashlib.sha256(canonical(merged).encode()).hexdigest()[:8]
        if key in cells:
            raise UserError(f"{where}: it sets the same as cell {cells[key].name}")
        cells[key] = Cell(study.name, profile.name, labels, merged, key, name)
    return tuple(cells.values())


def check_budget(where: str, given: Iterable[str], budget: Budget, profile: str) -> None:
    """Refuse options that say, beside a profile's budget, how long to train.

    Raises:
        UserError: `given` has a key that sets another limit.
    """
    if clash := sorted(set(BUDGET_KEYS).intersection(given)):
        raise UserError(
            f"{where}: {clash[0]!r} clashes with the budget of profile {profile} ({budget}); "
            "say once how long to train"
        )


def trials(cells: Sequence[Cell], seeds: Sequence[int], directory: Path) -> tuple[Trial, ...]:
    """Return every cell with every seed, all cells of one seed before the next seed."""
    return tuple(
        Trial(cell, seed, directory / f"{_file_name(cell.name)}-{cell.key}" / f"seed{seed}")
        for seed in seeds
        for cell in cells
    )


def arguments(trial: Trial, base: Path, data_root: Path | None = None) -> tuple[str, ...]:
    """Return the arguments that `python -m attnlab` needs to run `trial`.

    Args:
        trial: The trial.
        base: Its base experiment.
        data_root: Where the data are, which is no part of what a trial is; where the base
            experiment says when None.
    """
    return (
        "fit",
        "--config",
        str(base),
        "--run_dir",
        str(trial.run_dir),
        "--seed_everything",
        str(trial.seed),
        "--test_after_fit",
        "true",
        "--resume",
        "true",
        "--hparams",
        json.dumps(dict(trial.cell.labels)),
        *(f"--{key}={_flag(value)}" for key, value in trial.cell.overrides.items()),
        *(() if data_root is None else (f"--data.root={data_root}",)),
    )


def command_line(
    arguments: Sequence[str], environment: Mapping[str, str], python: str = "python"
) -> str:
    """Return the line that runs a trial by hand in a POSIX shell."""
    settings = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join((*settings, shlex.join((python, "-m", "attnlab", *arguments))))


def canonical(value: object) -> str:
    """Return the one JSON text of `value`, the same for every order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def check_path(where: str, key: str, base: object) -> None:
    """Refuse a dotted key that leads into a list of the base experiment.

    Such a flag silently changes the last entry only.
    """
    node = base
    for depth, part in enumerate(key.split(".")):
        if isinstance(node, dict) and part not in node and "init_args" in node:
            node = node["init_args"]  # the command line lets one leave these words out
        if isinstance(node, list):
            inside = ".".join(key.split(".")[:depth])
            raise UserError(
                f"{where}: {key!r} leads into the list {inside!r}, which cannot be varied"
            )
        node = node.get(part) if isinstance(node, dict) else None


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _check_nesting(where: str, overrides: Overrides) -> None:
    for inner in overrides:
        outer = inner.rpartition(".")[0]
        while outer:
            if outer in overrides:
                raise UserError(
                    f"{where}: sets both {outer!r} and {inner!r} inside it; set one of them"
                )
            outer = outer.rpartition(".")[0]


def _flag(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _file_name(name: str) -> str:
    """Return `name` with what a file system or a shell may stumble over replaced, cut to length."""
    return re.sub(r"[^\w=,.+-]", "_", name, flags=re.ASCII)[:80].lstrip("-.")
