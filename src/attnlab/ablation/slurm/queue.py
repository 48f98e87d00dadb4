"""Where SLURM has put the trials of a study."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from attnlab.ablation.slurm import client, submission
from attnlab.ablation.slurm.client import Entry
from attnlab.ablation.slurm.submission import Submission
from attnlab.ablation.states import Placement


class SlurmQueue:
    """What SLURM says about the trials of a study, whoever submitted them.

    Args:
        study_dir: The study's directory.
    """

    def __init__(self, study_dir: Path) -> None:
        self._study_dir = study_dir
        self._known: dict[Path, Submission] = {}

    def placements(self) -> Mapping[Path, Placement]:
        """Return where each waiting or running trial is, by its run directory.

        There are none where nothing was submitted, and on a machine without SLURM.

        Raises:
            UserError: SLURM does not answer.
        """
        submissions = submission.read_all(self._study_dir, self._known)
        self._known = {each.folder: each for each in submissions}
        if not submissions or shutil.which("squeue") is None:
            return {}
        entries = client.queue(submission.job_name(self._study_dir))
        base = self._study_dir.resolve()
        return {
            self._study_dir / run_dir.relative_to(base): placed(entry)
            for run_dir, (entry, _) in located(submissions, entries).items()
        }


def located(
    submissions: Iterable[Submission], entries: Iterable[Entry]
) -> dict[Path, tuple[Entry, Submission]]:
    """Return the task of each trial in the queue, and its array, by absolute run directory.

    A running task goes before a waiting one, should a trial have two.
    """
    by_script = {str(each.script): each for each in submissions}
    found: dict[Path, tuple[Entry, Submission]] = {}
    for entry in sorted(entries, key=lambda each: not each.waits):
        array = by_script.get(entry.script)
        if array is not None and entry.index < len(array.tasks):
            found[array.tasks[entry.index].run_dir] = entry, array
    return found


def placed(entry: Entry) -> Placement:
    """Return an entry of SLURM's queue in the words of the driver."""
    return Placement(
        job=entry.name,
        running=not entry.waits,
        node="" if entry.waits else entry.node,
        reason=entry.reason if entry.waits else "",
    )
