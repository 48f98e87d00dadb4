"""What was submitted: one folder for each array, which its tasks and later drivers read.

| file in `<study>/.slurm/<n>/` | meaning |
|---|---|
| `manifest.json` | the trials, in the order of the array, and how each of them is run |
| `batch.sh` | the batch script |
| `job` | the array's identity; missing if the driver died between submitting and noting it |
| `tasks/<index>.json` | what a stopped trial remembers for its next turn (`task`) |
| `<index>.out` | output of the batch script itself; the trial's is in its run directory |
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlab.ablation import rundir
from attnlab.files import write_atomically

FOLDER = ".slurm"
MANIFEST = "manifest.json"
SCRIPT = "batch.sh"
JOB = "job"


@dataclass(frozen=True)
class Task:
    """One trial of an array.

    Attributes:
        run_dir: Its run directory, absolute.
        seed: Its seed.
        arguments: What follows ``python -m attnlab``.
    """

    run_dir: Path
    seed: int
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """One array.

    Attributes:
        folder: Where it is described, absolute.
        tasks: Its trials, by index.
        launch: Words before the arguments of each trial, such as ``srun ... python -m attnlab``.
        environment: Variables of each trial.
        code: Identity of the code that the trials run.
        limit_s: Seconds that one trial may take, all its turns together; no limit when None.
        max_stops: Times in a row a trial may be stopped without having got any further.
    """

    folder: Path
    tasks: tuple[Task, ...]
    launch: tuple[str, ...]
    environment: Mapping[str, str]
    code: str
    limit_s: float | None
    max_stops: int

    @property
    def number(self) -> int:
        """Its place in the order of submissions."""
        return int(self.folder.name)

    @property
    def script(self) -> Path:
        """The batch script."""
        return self.folder / SCRIPT

    @property
    def job(self) -> str:
        """Identity of the array; empty where it was never submitted, or that was not noted."""
        try:
            return (self.folder / JOB).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""

    def note_job(self, job: str) -> None:
        """Note the identity of the array."""
        write_atomically(self.folder / JOB, f"{job}\n")


def create(study_dir: Path, tasks: Sequence[Task], **shared: Any) -> Submission:
    """Describe an array of `tasks` in a new folder; `shared` is what they have in common."""
    root = study_dir.resolve() / FOLDER
    root.mkdir(parents=True, exist_ok=True)
    number = next_number(study_dir)
    while True:
        with contextlib.suppress(FileExistsError):
            (root / str(number)).mkdir()
            break
        number += 1
    submission = Submission(folder=root / str(number), tasks=tuple(tasks), **shared)
    rundir.write_json(
        submission.folder / MANIFEST,
        {
            "launch": submission.launch,
            "environment": dict(submission.environment),
            "code": submission.code,
            "limit_s": submission.limit_s,
            "max_stops": submission.max_stops,
            "tasks": [
                {"run_dir": str(task.run_dir), "seed": task.seed, "arguments": task.arguments}
                for task in submission.tasks
            ],
        },
    )
    return submission


def next_number(study_dir: Path) -> int:
    """Return the number that the next submission of a study will have."""
    return max(_numbers(study_dir.resolve() / FOLDER), default=0) + 1


def read(folder: Path) -> Submission | None:
    """Return the submission in `folder`, or None where its driver died before it was complete."""
    record = rundir.read_json(folder / MANIFEST)
    if not record:
        return None
    tasks = tuple(
        Task(Path(each["run_dir"]), each["seed"], tuple(each["arguments"]))
        for each in record["tasks"]
    )
    return Submission(
        folder=folder,
        tasks=tasks,
        launch=tuple(record["launch"]),
        environment=record["environment"],
        code=record["code"],
        limit_s=record["limit_s"],
        max_stops=record["max_stops"],
    )


def read_all(study_dir: Path, known: Mapping[Path, Submission] | None = None) -> list[Submission]:
    """Return all submissions of a study, the oldest first.

    Args:
        study_dir: The study's directory.
        known: Submissions that were read before, by their folders; they never change.
    """
    root = study_dir.resolve() / FOLDER
    folders = (root / str(number) for number in sorted(_numbers(root)))
    found = ((known or {}).get(folder) or read(folder) for folder in folders)
    return [each for each in found if each is not None]


def job_name(study_dir: Path) -> str:
    """Return what SLURM calls the arrays of a study."""
    return f"attnlab-{study_dir.resolve().parent.name}"


def _numbers(root: Path) -> Iterable[int]:
    if not root.is_dir():
        return []
    return [int(path.name) for path in root.iterdir() if path.name.isdecimal()]
