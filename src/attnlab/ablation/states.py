"""What a trial is doing right now, whoever runs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from attnlab.ablation.attempts import Attempt, Failure
from attnlab.ablation.cells import Result, Trial
from attnlab.ablation.rundir import Progress


class State(StrEnum):
    """The states a trial can be in; exactly one at a time."""

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    FAILED = "failed"
    MISSING = "missing"


@dataclass(frozen=True)
class Placement:
    """Where a scheduler has put a trial.

    Attributes:
        job: The scheduler's name of it, such as ``17_3``.
        running: Whether it runs; it waits otherwise.
        node: Where it runs; empty while it waits.
        reason: Why it waits, in the scheduler's words; empty while it runs.
    """

    job: str
    running: bool
    node: str = ""
    reason: str = ""


class Queue(Protocol):
    """What a scheduler says about the trials it was given."""

    def placements(self) -> Mapping[Path, Placement]:
        """Return where each waiting or running trial is, by its run directory."""


@dataclass(frozen=True)
class TrialState:
    """All that is known about a trial at one moment.

    Attributes:
        trial: The trial.
        state: What it is doing.
        result: What it reached, when done.
        progress: How far it is, while it runs and after it failed; None before it has said so.
        metrics: The newest line of its `metrics.jsonl` while it runs: metric to value.
        attempt: Its latest attempt.
        failure: Why that failed.
        placement: Where the scheduler has put it.
    """

    trial: Trial
    state: State
    result: Result | None = None
    progress: Progress | None = None
    metrics: Mapping[str, float] | None = None
    attempt: Attempt | None = None
    failure: Failure | None = None
    placement: Placement | None = None
