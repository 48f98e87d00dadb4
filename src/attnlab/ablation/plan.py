"""What one start of the driver is about: the grid, and where it lives."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from attnlab.ablation import cells, rundir, strict_yaml
from attnlab.ablation.cells import Cell, Result, Trial
from attnlab.ablation.errors import UserError, show
from attnlab.ablation.schema import Profile, Study
from attnlab.ablation.snapshot import Snapshot
from attnlab.files import write_atomically


@dataclass(frozen=True)
class Plan:
    """A study in a profile, spelt out.

    Attributes:
        base: File of the base experiment.
        directory: Where all trials of the study in this profile live.
        stanza: Everything that all trials share, as ``place -> JSON``; trials of two different
            stanzas cannot be compared. The grid, the seeds and the baseline are no part of it.
        data_root: Where the data are, which may change between two starts; where the base
            experiment says when None.
    """

    study: Study
    profile: Profile
    base: Path
    directory: Path
    cells: tuple[Cell, ...]
    trials: tuple[Trial, ...]
    stanza: Mapping[str, str]
    data_root: Path | None = None

    @property
    def title(self) -> str:
        """What is run, in one line."""
        seeds = len(self.study.seeds)
        return (
            f"study {self.study.name}, profile {self.profile.name}: "
            f"{len(self.cells)} cells x {seeds} seeds = {len(self.trials)} trials"
        )

    def arguments(self, trial: Trial) -> tuple[str, ...]:
        """Return the arguments that `python -m attnlab` needs to run `trial`."""
        return cells.arguments(trial, self.base, self.data_root)

    def results(self) -> list[Result]:
        """Return every trial that has finished, in the order of the grid."""
        return [result for trial in self.trials if (result := rundir.read_result(trial))]

    def measured(self, results: Iterable[Result]) -> list[Result]:
        """Return those results that have a value of the study's metric, and did not fail."""
        return [each for each in results if cells.metric(each, self.study) is not None]


def make(study: Study, profile: Profile, output_dir: Path, data_root: Path | None = None) -> Plan:
    """Spell out `study` in `profile`, on the data at `data_root`.

    Raises:
        UserError: The base experiment is missing or unreadable, or the grid makes no sense.
    """
    base = cells.base_of(study, profile)
    where = f"study {study.name}, profile {profile.name}"
    if not base.is_file():
        raise UserError(f"{where}: base experiment {base} is missing")
    experiment = strict_yaml.load(base)
    grid = cells.expand(study, profile)
    first = {key: cell for cell in reversed(grid) for key in cell.overrides}
    for key, cell in first.items():
        cells.check_path(f"study {study.name}, cell {cell.name}", key, experiment)
    stanza = {"metric": cells.canonical(study.metric)}
    stanza |= _flat("override ", {**profile.overrides, **study.overrides})
    stanza |= _flat("base ", experiment)
    directory = cells.study_dir(output_dir, study, profile)
    return Plan(
        study=study,
        profile=profile,
        base=base,
        directory=directory,
        cells=grid,
        trials=cells.trials(grid, study.seeds, directory),
        stanza=stanza,
        data_root=data_root,
    )


def check_directory(plan: Plan) -> None:
    """See to it that the study's directory, if there is one, is that of this stanza.

    Raises:
        UserError: It holds something else; nothing is touched.
    """
    if not plan.directory.exists():
        return
    if all(path.name.startswith(".") for path in plan.directory.iterdir()):  # locks
        return
    advice = "choose another --output-dir, or remove that directory"
    found = rundir.read_json(plan.directory / "study.json").get("stanza")
    if not isinstance(found, dict):
        raise UserError(f"{plan.directory} is not the directory of a study; {advice}")
    if found != plan.stanza:
        difference = _difference(found, plan.stanza)
        raise UserError(f"{plan.directory} holds runs of another stanza ({difference}); {advice}")


def claim_directory(plan: Plan) -> None:
    """Mark the study's directory, which must be locked and checked, as that of this stanza."""
    record = {"study": plan.study.name, "profile": plan.profile.name, "stanza": plan.stanza}
    rundir.write_json(plan.directory / "study.json", record)


def freeze(plan: Plan, code: Snapshot | None) -> Plan:
    """Return the plan with its base experiment in `code`, or a copy of it where it is not there.

    Editing the file changes nothing for trials that wait, then.

    Args:
        plan: The plan; its directory must exist.
        code: What its trials run from, if that is a copy itself.

    Raises:
        UserError: The file has been edited since the plan was made.
    """
    inside = plan.base if code is None else code.inside(plan.base)
    copied = code is not None and inside.resolve().is_relative_to(code.path)
    frozen = replace(plan, base=inside) if copied else _keep_base(plan)
    planned = {place: text for place, text in plan.stanza.items() if place.startswith("base ")}
    if _flat("base ", strict_yaml.load(frozen.base)) != planned:
        raise UserError(f"{plan.base} was edited while the driver started; start it again")
    return frozen


def _keep_base(plan: Plan) -> Plan:
    """Return the plan with a copy in the study's directory, which equal contents share."""
    content = plan.base.read_bytes()
    name = f"{plan.base.stem}-{hashlib.sha256(content).hexdigest()[:8]}{plan.base.suffix}"
    copy = plan.directory / ".base" / name
    if not copy.exists():
        write_atomically(copy, content)
    return replace(plan, base=copy)


def check_logged(plan: Plan, results: Iterable[Result]) -> None:
    """See to it that trials log the study's metric, which all or none of them do.

    Raises:
        UserError: One does not, so that the study would be for nothing.
    """
    for result in results:
        logged = result.record["metrics"]
        if plan.study.metric not in logged:
            raise UserError(
                f"study {plan.study.name}: metric {plan.study.metric!r} was not logged by "
                f"{result.trial.run_dir}; logged: {', '.join(sorted(logged)) or 'none'}"
            )


def _flat(prefix: str, node: object) -> dict[str, str]:
    """Return the leaves of nested mappings as ``dotted place -> JSON``."""
    if not isinstance(node, dict) or not node:
        return {prefix: cells.canonical(node)}
    leaves: dict[str, str] = {}
    for key, value in node.items():
        leaves |= _flat(f"{prefix}{'' if prefix.endswith(' ') else '.'}{key}", value)
    return leaves


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Name up to three leaves that differ."""
    places = sorted(place for place in old.keys() | new.keys() if old.get(place) != new.get(place))
    named = [
        f"{place} was {_leaf(old.get(place))}, is {_leaf(new.get(place))}" for place in places[:3]
    ]
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return "; ".join(named) + more


def _leaf(text: str | None) -> str:
    return "unset" if text is None else show(json.loads(text), 40)
