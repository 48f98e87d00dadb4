"""Drivers that follow one another as jobs: what each may still do of one start."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from attnlab.ablation.attempts import Failure
from attnlab.ablation.launch import RETRIES
from attnlab.ablation.slurm import client, script, submission
from attnlab.ablation.slurm.launcher import RETURNS
from attnlab.ablation.slurm.settings import SlurmSettings
from attnlab.ablation.slurm.verdict import Verdict, judge


def spent(study_dir: Path, since: int, waiting: Iterable[Path]) -> set[Path]:
    """Return the run directories that this start of the driver must not run again.

    Args:
        study_dir: The study's directory.
        since: Number of the first submission of this start.
        waiting: Run directories that are in the queue, which nothing is said about.
    """
    tries: dict[Path, int] = {}
    latest = {}
    for array in submission.read_all(study_dir):
        if array.number >= since:
            for index, task in enumerate(array.tasks):
                tries[task.run_dir] = tries.get(task.run_dir, 0) + 1
                latest[task.run_dir] = task, array, index
    found = set()
    for run_dir in latest.keys() - set(waiting):
        verdict = judge(*latest[run_dir], lost=True)
        if isinstance(verdict, Failure):
            most = 1 + RETRIES if verdict.kind.retried else 1
        else:
            most = 1 + RETURNS if verdict is Verdict.STOPPED else 1
        if tries[run_dir] >= most:
            found.add(run_dir)
    return found


def follow(
    study_dir: Path,
    settings: SlurmSettings,
    *,
    since: int,
    after: Sequence[str],
    copies: Mapping[str, str],
    files: Sequence[str],
    environment: Mapping[str, str],
) -> str:
    """Submit a job that calls this driver again when other jobs have ended.

    Args:
        study_dir: The study's directory.
        settings: What a trial asks of SLURM.
        since: Number of the first submission of this start.
        after: Those jobs.
        copies: Words of this command line that are to be replaced, such as the driver's script.
        files: Words that are to be added to it.
        environment: Variables of the driver.

    Returns:
        Identity of the job.

    Raises:
        UserError: SLURM refuses it.
    """
    folder = study_dir.resolve() / submission.FOLDER
    words = [copies.get(word, word) for word in sys.orig_argv[1:]]
    words = words[: words.index("--chain")] if "--chain" in words else [*words, *files]
    path = folder / f"driver-{since}.sh"
    script.write(
        path,
        settings.setup,
        environment,
        (sys.executable, *words, "--chain", str(since)),
    )
    name = f"{submission.job_name(study_dir)}-driver"
    return client.submit(
        path, script.driver_options(settings, name=name, folder=folder, after=after)
    )
