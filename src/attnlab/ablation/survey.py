"""Finding out what every trial of a study is doing, from what lies in its run directory.

Nothing here disturbs a trial: locks are looked up, not tried, where the system lists them.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from attnlab.ablation import attempts, rundir
from attnlab.ablation.cells import Trial
from attnlab.ablation.plan import Plan
from attnlab.ablation.states import Placement, Queue, State, TrialState

FRESH_S = 120.0
"""A trial on another machine, where its lock cannot be seen, runs if it said so this recently."""
_LOCKS = Path("/proc/locks")
_TAIL = 16_384

_Locks = frozenset[tuple[int, int, int]]


def survey(plan: Plan, queues: Iterable[Queue] = ()) -> list[TrialState]:
    """Return what each trial of `plan` is doing, in the plan's order.

    Args:
        plan: The study.
        queues: Schedulers that may have been given trials of it.

    Raises:
        UserError: A scheduler does not answer.
    """
    placements: dict[Path, Placement] = {}
    for queue in queues:
        placements |= queue.placements()
    locks = _held_locks()
    host = os.uname().nodename
    driver = _driver(plan.directory, locks)
    # Most trials of a large study lie in few directories, or in none yet.
    begun = {path.name for path in plan.directory.iterdir()} if plan.directory.is_dir() else set()
    states = []
    for trial in plan.trials:
        placement = placements.get(trial.run_dir)
        if placement is not None or trial.run_dir.parent.name in begun:
            state = _state(trial, placement, locks, host)
        else:
            state = TrialState(trial, State.MISSING)
        if state.state == State.MISSING and driver:
            waits = Placement(job="", running=False, reason=f"waits for {driver}")
            state = replace(state, state=State.QUEUED, placement=waits)
        states.append(state)
    return states


def _state(
    trial: Trial, placement: Placement | None, locks: _Locks | None, host: str
) -> TrialState:
    """Return what a trial is doing, apart from waiting for a driver of this machine."""
    run_dir = trial.run_dir
    if result := rundir.read_result(trial):
        return TrialState(trial, State.DONE, result)
    attempt = attempts.read_attempt(run_dir)
    failure = attempts.read_failure(run_dir)
    away = attempt is not None and attempt.node != host
    if placement is not None:
        state = State.RUNNING if placement.running else State.QUEUED
    elif _is_held(run_dir / rundir.LOCK, locks):
        state = State.RUNNING
    elif failure is not None:
        state = State.FAILED
    else:
        state = State.RUNNING if away and _is_fresh(run_dir) else State.MISSING
    runs = state == State.RUNNING
    return TrialState(
        trial,
        state,
        progress=rundir.read_progress(run_dir) if runs or state == State.FAILED else None,
        metrics=newest_metrics(run_dir / "metrics.jsonl") if runs else None,
        attempt=attempt,
        failure=None if runs else failure,
        placement=placement,
    )


def newest_metrics(path: Path) -> Mapping[str, float] | None:
    """Return the metrics in the last whole line of a `metrics.jsonl`; None before there is one.

    Only the end of the file is read. What is not finite is left out, and so are step and epoch.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    for line in reversed(lines[:-1]):  # what follows the last line break is being written
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            return {
                name: float(value)
                for name, value in record.items()
                if "/" in name and type(value) in (int, float)
            }
    return None


def _held_locks() -> _Locks | None:
    """Return device and inode of every file locked on this machine; None where nobody says."""
    try:
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return None
    held = set()
    for line in lines:
        words = line.split()
        place = words[-3].split(":")
        if "FLOCK" in words and "->" not in words and len(place) == 3:
            held.add((int(place[0], 16), int(place[1], 16), int(place[2])))
    return frozenset(held)


def _is_held(path: Path, locks: _Locks | None) -> bool:
    """Return whether somebody on this machine holds the lock file `path`."""
    try:
        found = path.stat()
    except OSError:
        return False
    if locks is not None:
        return (os.major(found.st_dev), os.minor(found.st_dev), found.st_ino) in locks
    with path.open("rb") as file:
        try:
            # Shared, and given back at once: a trial that starts this instant waits for it.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_fresh(run_dir: Path) -> bool:
    paths = (run_dir / "progress.json", run_dir / attempts.ATTEMPT)
    return any(
        path.exists() and abs(time.time() - path.stat().st_mtime) < FRESH_S for path in paths
    )


def _driver(directory: Path, locks: _Locks | None) -> str:
    """Return the driver that works through the study on this machine; empty if there is none."""
    path = directory / rundir.LOCK
    if not _is_held(path, locks):
        return ""
    return path.read_text(encoding="utf-8", errors="replace").strip() or "a driver"
