"""Where the trials of a search live, and what each of them sets."""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from attnlab.ablation import attempts, cells, parse, rundir
from attnlab.ablation import plan as planning
from attnlab.ablation.adapt import adapt
from attnlab.ablation.attempts import Failure
from attnlab.ablation.cells import Result, Trial
from attnlab.ablation.errors import UserError
from attnlab.ablation.plan import Plan
from attnlab.ablation.schema import Label
from attnlab.ablation.search.schema import Dimension, Range, Search

Params = Mapping[str, Label]

JOURNAL, POSTGRES = cells.canonical("journal"), cells.canonical("postgresql")
"""What may keep a search, as its stanza says it: one search is never in both."""
NOTE = "trial.json"
"""Beside a trial's run directory: which of the trials it is, and what it varies."""


@dataclass(frozen=True)
class SearchPlan:
    """A search in a profile, spelt out.

    Attributes:
        search: What is looked for.
        plan: A plan without cells and trials, since these are not known beforehand.
    """

    search: Search
    plan: Plan

    @property
    def name(self) -> str:
        """What Optuna knows the search by."""
        return f"{self.plan.study.name}/{self.plan.profile.name}"

    @property
    def title(self) -> str:
        """What is run, in one line."""
        search = self.search
        pruner = "" if search.pruner == "none" else f", pruner {search.pruner}"
        return (
            f"search {self.plan.study.name}, profile {self.plan.profile.name}: "
            f"{search.trials} trials, sampler {search.sampler}{pruner}"
        )

    @property
    def storage(self) -> str:
        """What keeps the search."""
        return self.plan.stanza["storage"]

    def trial(self, number: int, params: Params) -> Trial:
        """Return trial `number`, which sets `params`."""
        study, profile = self.plan.study, self.plan.profile
        point = dataclasses.replace(study, axes=self.search.axes(params))
        (cell,) = cells.expand(point, profile)
        shown = ", ".join(f"{name}={brief(value)}" for name, value in params.items())
        cell = dataclasses.replace(cell, name=f"trial {number} ({shown})")
        folder = self.plan.directory / f"trial{number}-{cell.key}"
        return Trial(cell, study.seeds[0], folder / f"seed{study.seeds[0]}")

    def corners(self) -> Iterator[Trial]:
        """Return trials that meet both ends of every range and every value of all else."""
        values = {each.name: _values(each) for each in self.search.space}
        for number in range(max(map(len, values.values()))):
            yield self.trial(
                number, {name: each[number % len(each)] for name, each in values.items()}
            )


@dataclass(frozen=True)
class Record:
    """What the run directory of a trial says.

    Attributes:
        number: Counts the trials of the search from 0.
        params: What it varies.
        trial: The trial.
        result: What it reached, if it has finished.
        failure: Why its latest attempt failed.
        given_up: Whether it is not to be run again.
    """

    number: int
    params: Params
    trial: Trial
    result: Result | None
    failure: Failure | None
    given_up: bool = False


def make(options: argparse.Namespace) -> SearchPlan:
    """Return the plan of the search that the options name, its directory checked.

    Raises:
        UserError: An option names what there is not, or the directory holds something else.
    """
    ablations = parse.load(options.file)
    search = ablations.searches[options.study]
    varied = _varied(search)
    fixed = dataclasses.replace(search.study, overrides={**search.study.overrides, **varied})
    stated = ablations.profile(options.profile)
    profile = adapt(stated, fixed, options.settings, options.devices_per_cell, options.budget)
    if options.data_root is not None and not options.data_root.is_dir():
        raise UserError(f"--data.root must be a folder, not {str(options.data_root)!r}")
    planning.make(fixed, profile, options.output_dir)  # refuses what cannot be varied
    plan = planning.make(search.study, profile, options.output_dir, options.data_root)
    found = of(search, plan, JOURNAL if getattr(options, "storage", None) is None else POSTGRES)
    list(found.corners())  # so that impossible ones are met here
    planning.check_directory(found.plan)
    return found


def of(search: Search, plan: Plan, storage: str = JOURNAL) -> SearchPlan:
    """Return the plan of a search from that of its study, which has no axes.

    Args:
        search: The search.
        plan: Its study in a profile.
        storage: What keeps it, if its directory does not say so already.
    """
    kept = rundir.read_json(plan.directory / "study.json").get("stanza")
    kept = kept.get("storage") if isinstance(kept, dict) else None
    stanza = {
        **plan.stanza,
        **{
            f"space {dimension.name}": cells.canonical(dataclasses.asdict(dimension))
            for dimension in search.space
        },
        "storage": kept if kept in (JOURNAL, POSTGRES) else storage,
    }
    return SearchPlan(search, dataclasses.replace(plan, cells=(), trials=(), stanza=stanza))


def brief(value: Label) -> str:
    """Return a value as people want to read it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def note(number: int, trial: Trial, *, given_up: bool = False) -> None:
    """Note down which trial it is, what it varies, and whether it has failed for good."""
    record = {"number": number, "params": dict(trial.cell.labels), "given_up": given_up}
    path = trial.run_dir.parent / NOTE
    if rundir.read_json(path) != record:
        rundir.write_json(path, record)


def records(found: SearchPlan) -> list[Record]:
    """Return what the run directories of a search say, in the order of the trials."""
    read = (_record(found, path) for path in found.plan.directory.glob(f"trial*/{NOTE}"))
    return sorted((each for each in read if each), key=lambda each: each.number)


def begun(found: SearchPlan) -> Plan:
    """Return the plan with all trials that have begun."""
    trials = tuple(record.trial for record in records(found))
    return dataclasses.replace(found.plan, cells=tuple(t.cell for t in trials), trials=trials)


def _record(found: SearchPlan, path: Path) -> Record | None:
    content = rundir.read_json(path)
    number, params = content.get("number"), content.get("params")
    names = {dimension.name for dimension in found.search.space}
    if type(number) is not int or not isinstance(params, dict) or params.keys() != names:
        return None
    trial = found.trial(number, params)
    if trial.run_dir.parent != path.parent:
        return None
    failure = attempts.read_failure(trial.run_dir)
    result = rundir.read_result(trial)
    return Record(number, params, trial, result, failure, content.get("given_up") is True)


def _values(dimension: Dimension) -> list[Label]:
    """Return both ends of a range, and all values of what is none."""
    if isinstance(dimension, Range):
        return [dimension.low, dimension.high]
    return [label for label, _ in dimension.cells]


def _varied(search: Search) -> dict[str, object]:
    """Return the keys that a search varies, each with one of its values."""
    keys: dict[str, object] = {}
    for dimension in search.space:
        if isinstance(dimension, Range):
            keys[dimension.key] = dimension.low
        else:
            for _, overrides in dimension.cells:
                keys |= overrides
    return keys
