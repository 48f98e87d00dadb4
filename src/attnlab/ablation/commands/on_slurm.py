"""What `run` does with SLURM beside following trials: stale ones, and leaving them to it."""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from attnlab.ablation.cells import Trial
from attnlab.ablation.commands.options import Trials
from attnlab.ablation.errors import UserError
from attnlab.ablation.launch import Job
from attnlab.ablation.plan import Plan
from attnlab.ablation.slurm import chain, client, submission
from attnlab.ablation.slurm.arrays import Arrays
from attnlab.ablation.slurm.launcher import SlurmLauncher
from attnlab.ablation.slurm.queue import SlurmQueue
from attnlab.ablation.slurm.script import Shape
from attnlab.ablation.slurm.settings import load
from attnlab.ablation.snapshot import Snapshot

SPARE_MINUTES = 5
"""What is asked of SLURM beyond a trial's own time limit, so that it is the trial's that counts."""


class OnSlurm:
    """One start of the driver with SLURM.

    Args:
        plan: What is run.
        options: The driver's options.
        trials: What a trial runs.
        code: The code it runs.

    Attributes:
        settings: What a trial asks of SLURM.
        environment: Variables of a trial, wherever it runs.
        launcher: What runs the trials.
    """

    def __init__(
        self, plan: Plan, options: argparse.Namespace, trials: Trials, code: Snapshot | None
    ) -> None:
        profile = plan.profile
        self._plan = plan
        self._options = options
        self._code = code
        self.settings = load(options.cluster, f"profile {profile.name}: slurm", profile.slurm)
        if options.workers is not None:
            self.settings = dataclasses.replace(self.settings, at_once=options.workers)
        client.check(self.settings.options.get("partition", ""))
        limit_s = None
        if profile.time_limit_minutes is not None:
            limit_s = profile.time_limit_minutes * 60
            minutes = math.ceil(profile.time_limit_minutes) + SPARE_MINUTES
            asked = {"time": str(minutes), **self.settings.options}
            self.settings = dataclasses.replace(self.settings, options=asked)
        shape = Shape(profile.nodes_per_cell, profile.gpus_per_cell, profile.threads_per_cell)
        threads = {"OMP_NUM_THREADS": str(shape.cpus(self.settings))}
        self.environment = {**(code.environment() if code else {}), **threads}
        hidden = {} if shape.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        container = self.settings.container
        python = self.settings.python or ("python" if container else sys.executable)
        arrays = Arrays(
            plan.directory,
            self.settings,
            shape,
            command=(python, "-m", trials.module),
            environment={**self.environment, **hidden},
            code=code.id if code else "",
            task_python=sys.executable,
            limit_s=limit_s,
        )
        self.launcher = SlurmLauncher(plan.directory, arrays, self.settings)

    def choose(self, missing: Sequence[Trial]) -> Sequence[Trial]:
        """Deal with trials that the study no longer has, and return those that may run.

        Raises:
            UserError: SLURM does not answer.
        """
        placements = SlurmQueue(self._plan.directory).placements()
        belong = {trial.run_dir for trial in self._plan.trials}
        stale = [each for run_dir, each in placements.items() if run_dir not in belong]
        waiting = [each.job for each in stale if not each.running]
        if running := len(stale) - len(waiting):
            print(f"{running} running trials no longer belong to the study; they may finish")
        if waiting and self._options.cancel_stale:
            client.cancel(waiting)
            print(f"{len(waiting)} queued trials that no longer belonged to the study: cancelled")
        elif waiting:
            jobs = " ".join(waiting[:5]) + (" ..." if len(waiting) > 5 else "")
            print(
                f"{len(waiting)} queued trials no longer belong to the study ({jobs}); "
                "--cancel-stale cancels them"
            )
        queued = sum(trial.run_dir in placements for trial in missing)
        if queued:
            print(f"{queued} trials are in SLURM's queue already; they are not submitted again")
        if self._options.chain is None:
            return missing
        spent = chain.spent(
            self._plan.directory,
            self._options.chain,
            {run_dir.resolve() for run_dir in placements},
        )
        return [trial for trial in missing if trial.run_dir.resolve() not in spent]

    def leave(self, missing: Sequence[Trial]) -> None:
        """Submit trials, and a job that goes on when they have ended.

        Raises:
            UserError: SLURM refuses the trials.
        """
        directory = self._plan.directory
        first = self._options.chain or submission.next_number(directory)
        left = self.launcher.detach(
            Job(str(each.run_dir), self._plan.arguments(each), each.run_dir, each.seed)
            for each in missing
        )
        jobs = self.launcher.jobs
        print(f"in SLURM's queue: {len(missing) - left} trials, jobs {' '.join(jobs)}")
        try:
            job = chain.follow(
                directory,
                self.settings,
                since=first,
                after=jobs,
                copies=self._copies(),
                files=self._files(),
                environment=self._code.environment() if self._code else {},
            )
        except UserError as error:
            print(
                f"run_ablation: warning: nothing follows them ({error}); give the same command "
                "again when they have ended",
                file=sys.stderr,
            )
            return
        print(f"job {job} then submits {left} more, runs again what may be, and reports")

    def _copies(self) -> dict[str, str]:
        """Return the driver's own script, and its copy in the snapshot."""
        script = Path(sys.argv[0])
        return {sys.argv[0]: str(self._code.inside(script))} if self._code else {}

    def _files(self) -> list[str]:
        """Return the options that name files, once more: those in the snapshot do not change."""
        named = {"--file": self._options.file, "--cluster": self._options.cluster}
        return [
            word
            for option, path in named.items()
            if path is not None and self._code is not None
            for word in (option, str(self._code.inside(path)))
        ]
