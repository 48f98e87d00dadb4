"""A study directory on the fake scheduler, whose trials the tests themselves finish."""

from pathlib import Path

import pytest

from attnlab.ablation import attempts, rundir, supervise
from attnlab.ablation.launch import Again, Ended, Events, Job, Started
from attnlab.ablation.slurm import launcher, submission
from attnlab.ablation.slurm.arrays import Arrays
from attnlab.ablation.slurm.launcher import SlurmLauncher
from attnlab.ablation.slurm.script import Shape
from attnlab.ablation.slurm.settings import SlurmSettings
from tests.ablation.fake_trial import record
from tests.ablation.slurm.faked import Faked


class Bench:
    """A study directory on the fake scheduler, whose trials the test itself finishes."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.slurm = Faked(root / "slurm")
        for name, value in self.slurm.environment.items():
            patch.setenv(name, value)
        patch.setattr(launcher, "POLL_S", (0.0001, 0.0001))
        patch.setattr(launcher, "TICK_S", 0.001)
        patch.setattr(launcher, "SETTLE_S", 0.0)
        self.study_dir = root / "my runs/value/laptop"
        self.study_dir.mkdir(parents=True)

    def launcher(self, **settings: object) -> SlurmLauncher:
        made = SlurmSettings(**settings)  # type: ignore[arg-type]
        arrays = Arrays(
            self.study_dir, made, Shape(), command=("python", "-m", "fake_trial"),
            environment={}, code="c0de", task_python="python",
        )  # fmt: skip
        return SlurmLauncher(self.study_dir, arrays, made)

    def jobs(self, count: int) -> list[Job]:
        folders = [self.study_dir / f"cell{index}/seed0" for index in range(count)]
        return [Job(str(each), ("fit", f"--cell={each.parent.name}"), each, 0) for each in folders]

    def trial(self, number: int, index: int) -> Path:
        """Return the run directory of a task."""
        array = submission.read(self.study_dir / ".slurm" / str(number))
        assert array is not None
        return array.tasks[index].run_dir

    def begin(self, number: int, *indices: int) -> None:
        """Let tasks begin their trials."""
        for index in indices:
            job = f"{number}_{index}"
            supervise.begin(self.trial(number, index), launcher="slurm", job=job, code="c0de")
            self.slurm.set(number, index, state="RUNNING")

    def finish(self, number: int, *indices: int) -> None:
        """Let tasks end with a result."""
        for index in indices or range(len(self.slurm.states(number))):
            run_dir = self.trial(number, index)
            rundir.write_json(run_dir / "result.json", record(0.5, 0, {}))
            rundir.write_json(run_dir / "driver.json", {"wall_s": 7.0, "workers": 1})
            self.slurm.set(number, index, state="COMPLETED")

    def fail(self, number: int, index: int, log: str, code: int = 1) -> None:
        """Let a task end with an error that it notes itself."""
        self.begin(number, index)
        run_dir = self.trial(number, index)
        (run_dir / "log.txt").write_text(log)
        attempt = attempts.read_attempt(run_dir)
        assert attempt is not None
        supervise.end(run_dir, attempt, code, 0)
        self.slurm.set(number, index, state="FAILED", code=code)


def settle(events: Events) -> list[Started | Again | Ended]:
    """Return what is said until SLURM has been asked twice more; None is said in between."""
    said, silent = [], 0
    for event in events:
        if event is None:
            silent += 1
            if silent == 3:
                break
        else:
            said.append(event)
    return said


def ended(events: list[Started | Again | Ended]) -> list[str]:
    return sorted(event.job.folder.parent.name for event in events if isinstance(event, Ended))
