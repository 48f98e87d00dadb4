"""The fake scheduler, put first on the path, as the tests see it."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from tests.ablation.slurm import fake_slurm

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sinfo", "srun")


class Faked:
    """A folder with the fake commands and their jobs.

    Args:
        folder: Where they are; made here.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        script = Path(fake_slurm.__file__).read_text()
        for name in COMMANDS:
            path = folder / name
            path.write_text(f"#!{sys.executable} -IS\n{script}")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.environment = {
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "FAKE_SLURM": str(folder),
        }

    def say(self, name: str, text: str = "") -> None:
        """Write one of the files that the fake heeds."""
        (self.folder / name).write_text(text)

    @property
    def jobs(self) -> dict[str, Any]:
        """All jobs by their number."""
        path = self.folder / "jobs.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def states(self, number: int) -> list[str]:
        """Return the states of an array's tasks."""
        return [task["state"] for task in self.jobs[str(number)]["tasks"].values()]

    def set(self, number: int, *indices: int, state: str, code: int = 0) -> None:
        """Change the state of tasks, of all where no index is given."""
        jobs = self.jobs
        tasks = jobs[str(number)]["tasks"]
        for index in map(str, indices or range(len(tasks))):
            tasks[index] = {"state": state, "node": "n1" * (state == "RUNNING"), "code": code}
        (self.folder / "jobs.json").write_text(json.dumps(jobs))
