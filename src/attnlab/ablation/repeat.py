"""The one command that repeats a trial, from what its run left behind."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlab.ablation import cells, resources, rundir
from attnlab.ablation.cells import Cell, Result, Trial
from attnlab.ablation.errors import UserError, unknown
from attnlab.ablation.plan import Plan
from attnlab.ablation.schema import Label

CODE = ".code"
"""Beside the studies: the copies of the repository that trials ran from."""
UNREPEATABLE = ("perf/",)
"""How the metrics begin that measure a machine, and differ from run to run."""


@dataclass(frozen=True)
class Repeat:
    """How to run a trial once more.

    Attributes:
        arguments: What follows ``python -m attnlab``.
        environment: What is set for it.
        directory: Where it is run.
        notes: What a reader must know, one line each.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    notes: tuple[str, ...]

    def line(self) -> str:
        """Return the command for a POSIX shell, whatever directory that is in."""
        command = cells.command_line(self.arguments, self.environment, resources.python())
        here = self.directory == Path.cwd()
        return command if here else f"cd {shlex.quote(str(self.directory))} && {command}"


def find(plan: Plan, named: str, seed: int | None) -> Trial:
    """Return the trial of a cell that is given by its key, its name or some of its labels.

    Args:
        plan: The study.
        named: The cell, such as ``num_rpes=4``.
        seed: The seed; when None the first with a result, or the first of all.

    Raises:
        UserError: No cell or several are meant, or the study has no such seed.
    """
    wanted = dict(each.partition("=")[::2] for each in named.split(","))
    # Of a search the name goes on with what the trial sets.
    found = [
        cell for cell in plan.cells if named in (cell.key, cell.name, cell.name.partition(" (")[0])
    ]
    found = found or [cell for cell in plan.cells if _has(cell, wanted)]
    where = f"study {plan.study.name}"
    if not found:
        raise UserError(f"{where}: {_unknown_cell(plan, named)}")
    if len(found) > 1:
        names = ", ".join(cell.name for cell in found[:4])
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        raise UserError(f"{where}: {named!r} may be {names}{more}; give more of its labels")
    if seed is not None and seed not in plan.study.seeds:
        raise UserError(f"{where}: {unknown('seed', seed, plan.study.seeds)}")
    trials = [each for each in plan.trials if each.cell == found[0] and seed in (None, each.seed)]
    return next((each for each in trials if rundir.read_result(each)), trials[0])


def of(plan: Plan, trial: Trial, into: Path, head: str) -> Repeat:
    """Return how to run `trial` once more, into another directory.

    Args:
        plan: Its study.
        trial: The trial; where it has no result, what would run now.
        into: The new run directory.
        head: The commit that is checked out now; empty outside a checkout.
    """
    result = rundir.read_result(trial)
    if result is None:
        arguments = replaced(plan.arguments(trial), "--run_dir", str(into))
        note = "it has not finished; this is what runs now"
        return Repeat(arguments, _environment(plan, {}), Path.cwd(), (note,))
    return _recorded(plan, result, into, head)


def _recorded(plan: Plan, result: Result, into: Path, head: str) -> Repeat:
    """Return how to run a finished trial once more, as its own record says."""
    record, git = result.record, result.record["git"]
    command = record.get("command", [])
    arguments = tuple(command[3:]) if len(command) > 3 else plan.arguments(result.trial)
    notes = [_origin(record)]
    environment = _environment(plan, record)
    copy = plan.directory.parent.parent / CODE / str(git.get("code"))
    if git.get("code") and copy.is_dir():
        environment["PYTHONPATH"] = str(copy.resolve() / "src")
        notes.append(f"code: the copy {copy}, which the command uses")
        notes += _checkout(git, copy / "changes.patch")
    elif git.get("code"):
        notes.append(f"code: the copy {copy} is gone")
        notes += _checkout(git, None)
    elif git.get("commit") != head or git.get("dirty"):
        notes += _checkout(git, None)
    directory = Path(record.get("directory") or Path.cwd())
    if not directory.is_dir():
        notes.append(f"its directory {directory} is not there")
        directory = Path.cwd()
    config = directory / _value(arguments, "--config", str(plan.base))
    if not config.exists():
        notes.append(f"its base experiment {config} is not there; {plan.base} may differ from it")
        arguments = replaced(arguments, "--config", str(plan.base.resolve()))
    resolved = result.trial.run_dir / "config.yaml"
    if resolved.exists():
        notes.append(f"all that was set, defaults included: {resolved}")
    arguments = replaced(arguments, "--run_dir", str(into.resolve()))
    return Repeat(arguments, environment, directory, tuple(notes))


def differences(
    old: Mapping[str, float | None], new: Mapping[str, float | None]
) -> tuple[int, list[str]]:
    """Return how many metrics of two runs were compared, and a line for each that differs."""
    names = [name for name in {**old, **new} if not name.startswith(UNREPEATABLE)]
    lines = []
    for name in names:
        before, now = old.get(name), new.get(name)
        if before != now or (name in old) != (name in new):
            gap = f" ({now - before:+.3g})" if before is not None and now is not None else ""
            lines.append(f"{name} was {_shown(name, old)}, is {_shown(name, new)}{gap}")
    return len(names), lines


def replaced(arguments: Sequence[str], flag: str, value: str) -> tuple[str, ...]:
    """Return `arguments` with another value of `flag`, which is followed by the old one."""
    words = list(arguments)
    if flag in words[:-1]:
        words[words.index(flag) + 1] = value
    else:
        words += [flag, value]
    return tuple(words)


def _value(arguments: Sequence[str], flag: str, default: str) -> str:
    words = list(arguments)
    return words[words.index(flag) + 1] if flag in words[:-1] else default


def _has(cell: Cell, wanted: Mapping[str, str]) -> bool:
    """Return whether `cell` has all these labels, as they are written."""
    return all(
        axis in cell.labels and text in _spellings(cell.labels[axis])
        for axis, text in wanted.items()
    )


def _spellings(label: Label) -> tuple[str, ...]:
    return str(label), cells.canonical(label)


def _unknown_cell(plan: Plan, named: str) -> str:
    names = [cell.name for cell in plan.cells]
    line = unknown("cell", named, names[:20])
    return line + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")


def _environment(plan: Plan, record: Mapping[str, Any]) -> dict[str, str]:
    """Return what was set for a run, or what the driver sets where that was not noted."""
    noted = record.get("environment")
    return dict(noted) if isinstance(noted, dict) else resources.environment(plan.profile)


def _origin(record: Mapping[str, Any]) -> str:
    """Return when, on what and with what a run was made."""
    machine, versions = record["hardware"], record["versions"]
    device = machine.get("gpu") or machine.get("cpu") or "an unknown processor"
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"finished {record['finished']} on {device} ({machine.get('host', '?')}); {named}"


def _checkout(git: Mapping[str, Any], patch: Path | None) -> list[str]:
    """Return how to come by the code of a run from the repository."""
    if not git.get("commit"):
        return ["its commit was not recorded"]
    line = f"from the repository: git checkout {git['commit']}"
    if not git.get("dirty"):
        return [line]
    if patch is not None and patch.exists():
        return [f"{line} && git apply {shlex.quote(str(patch))}"]
    return [f"{line}; it had uncommitted changes, which were not kept"]


def _shown(name: str, metrics: Mapping[str, float | None]) -> str:
    if name not in metrics:
        return "missing"
    return "not finite" if metrics[name] is None else repr(metrics[name])
