"""What is noted down of a trial's attempts: who runs it, where, and why the last one failed.

| file | written by | meaning |
|---|---|---|
| `attempt.json` | whoever starts the trial's process, before it starts | the latest attempt |
| `failure.json` | the same, when that process has ended without a result | why; gone once retried |

Neither says whether a trial is done: `result.json` alone does (`rundir`).
"""

import dataclasses
import datetime
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from attnlab.ablation import rundir

ATTEMPT = "attempt.json"
FAILURE = "failure.json"


class Kind(StrEnum):
    """Why an attempt failed, as far as it decides whether another one makes sense."""

    MEMORY = "out of memory"
    TRANSIENT = "transient"
    TIME = "time limit"
    STOPPED = "stopped"
    ERROR = "error"

    @property
    def retried(self) -> bool:
        """Whether the same trial may succeed when it is run again unchanged."""
        return self in (Kind.MEMORY, Kind.TRANSIENT)


@dataclass(frozen=True)
class Attempt:
    """One start of a trial's process.

    Attributes:
        number: Counts the attempts of this trial from 1; a resumed one counts as a new one.
        launcher: What started it.
        job: The scheduler's name of it, such as ``17_3``; empty where there is no scheduler.
        node: Host it runs on.
        code: Identity of the code it runs (`snapshot`); empty where unknown.
        started: When, as ISO 8601 with its zone.
        resumed: Whether it goes on from a checkpoint of an earlier attempt.
    """

    number: int
    launcher: Literal["local", "slurm"]
    job: str
    node: str
    code: str
    started: str
    resumed: bool


@dataclass(frozen=True)
class Failure:
    """How the latest attempt of a trial ended, other than well.

    Attributes:
        kind: Whether it makes sense to run it again.
        error: One line for people: the last error of the log, or what killed the process.
        exit_code: Of the process; minus the signal where one killed it.
        attempt: Number of that attempt.
        finished: When, as ISO 8601 with its zone.
    """

    kind: Kind
    error: str
    exit_code: int
    attempt: int
    finished: str


def read_attempt(run_dir: Path) -> Attempt | None:
    """Return the latest attempt in `run_dir`; None before the first, or if its note is torn."""
    record = _fields(run_dir / ATTEMPT, Attempt)
    return Attempt(**record) if record else None


def write_attempt(run_dir: Path, attempt: Attempt) -> None:
    """Note an attempt that is about to start; an earlier failure is history."""
    rundir.write_json(run_dir / ATTEMPT, dataclasses.asdict(attempt), sync=False)
    (run_dir / FAILURE).unlink(missing_ok=True)


def read_failure(run_dir: Path) -> Failure | None:
    """Return why the latest attempt in `run_dir` failed, or None if it did not, or not yet."""
    record = _fields(run_dir / FAILURE, Failure)
    if record.get("kind") not in tuple(Kind):
        return None
    return Failure(**{**record, "kind": Kind(record["kind"])})


def write_failure(run_dir: Path, failure: Failure) -> None:
    """Note why the latest attempt failed."""
    rundir.write_json(run_dir / FAILURE, dataclasses.asdict(failure))


def unnoted(kind: Kind, error: str) -> Failure:
    """Return a failure that no run directory holds."""
    return Failure(kind=kind, error=error, exit_code=1, attempt=0, finished=now())


def now() -> str:
    """Return the time as notes have it: ISO 8601, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _fields(path: Path, kind: type[Attempt] | type[Failure]) -> dict[str, Any]:
    """Return what `path` notes of each field of `kind`; nothing if it is torn or foreign."""
    record = rundir.read_json(path)
    return record if set(record) == {field.name for field in dataclasses.fields(kind)} else {}
