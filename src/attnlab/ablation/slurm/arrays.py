"""Submitting trials as one array of SLURM."""

import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from attnlab.ablation.launch import Job
from attnlab.ablation.slurm import client, script, submission
from attnlab.ablation.slurm.script import Shape
from attnlab.ablation.slurm.settings import SlurmSettings
from attnlab.ablation.slurm.submission import Submission, Task


class Arrays:
    """The arrays of one start of the driver, all of the same kind.

    Args:
        study_dir: The study's directory.
        settings: What a trial asks of SLURM.
        shape: Its machines.
        command: What comes before a trial's arguments, such as ``python -m attnlab``.
        environment: Variables of each trial, and of the task that runs it.
        code: Identity of the code that the trials run; empty where unknown.
        task_python: The Python that runs the task around a trial.
        limit_s: Seconds that one trial may take, all its turns together; no limit when None.
    """

    def __init__(
        self,
        study_dir: Path,
        settings: SlurmSettings,
        shape: Shape,
        *,
        command: Sequence[str],
        environment: Mapping[str, str],
        code: str,
        task_python: str,
        limit_s: float | None = None,
    ) -> None:
        self._study_dir = study_dir
        self._settings = settings
        self._shape = shape
        self._task_python = task_python
        self._environment = environment
        self._shared = {
            "launch": (*shape.launch(settings), *command),
            "environment": environment,
            "code": code,
            "limit_s": limit_s,
            "max_stops": settings.max_stops,
        }

    @functools.cache  # noqa: B019 (there is one of these in a process)
    def largest(self) -> int:
        """Return how many trials one array may have."""
        allowed = client.max_array()
        return min(allowed, self._settings.max_array or allowed)

    def submit(self, jobs: Sequence[Job], at_once: int | None) -> Submission:
        """Submit `jobs` as one array of which so many may run at a time.

        Raises:
            LimitError: There are too many jobs in the queue; nothing is left behind.
            UserError: SLURM refuses for another reason; nothing is left behind.
        """
        tasks = [
            Task(job.folder.resolve(), job.seed or 0, (*job.arguments, *self._shape.flags()))
            for job in jobs
        ]
        array = submission.create(self._study_dir, tasks, **self._shared)
        manifest = str(array.folder / submission.MANIFEST)
        command = (self._task_python, "-m", "attnlab.ablation.slurm.task", manifest)
        words = (*command, "$SLURM_ARRAY_TASK_ID")
        script.write(array.script, self._settings.setup, self._environment, words)
        name = submission.job_name(self._study_dir)
        options = script.options(self._settings, name=name, folder=array.folder, shape=self._shape)
        throttle = "" if at_once is None else f"%{at_once}"
        options.append(f"--array=0-{len(tasks) - 1}{throttle}")
        try:
            array.note_job(client.submit(array.script, options))
        except BaseException:
            shutil.rmtree(array.folder, ignore_errors=True)
            raise
        return array
