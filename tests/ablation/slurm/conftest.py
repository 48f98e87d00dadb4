"""A real SLURM for the tests of a module, and studies of fakes on it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ablation.conftest import Lab
from tests.ablation.slurm.cluster import Cluster, missing, wait_for

# The report has its own tests, and SLURM is asked more often than is polite.
DRIVE = """
import sys, types
def write(*arguments):
    print("reported")
sys.modules["attnlab.ablation.report"] = types.SimpleNamespace(write=write)
from attnlab.ablation.slurm import launcher
launcher.POLL_S = (0.3, 0.6)
take = launcher.SlurmLauncher._take
def _take(self, *arguments):
    take(self, *arguments)
    print(len(self._tracked), "followed", flush=True)
launcher.SlurmLauncher._take = _take
from attnlab.ablation.cli import main
module = sys.argv.pop(1)
sys.exit(main() if module == "attnlab" else main(module=module, preload=[]))
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    """A cluster of two nodes, which ends with the module."""
    if reason := missing():
        pytest.skip(reason)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """The cluster of the module, without the jobs of earlier tests."""
    yield running
    running.clear()


class SlurmLab(Lab):
    """A lab whose studies run on a cluster, by the trials of `slow_trial` or real ones."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], cluster: Cluster) -> None:
        super().__init__(root, capsys)
        self.cluster = cluster
        self.module = "tests.ablation.slurm.slow_trial"
        self.stanzas["profiles"]["laptop"]["gpus_per_cell"] = 1
        # Trials go on only where they run the same code, which is known in a repository.
        (root / ".gitignore").write_text("runs\ntrials\nbehave\ngate\n")
        subprocess.run(["git", "init", "--quiet", root], check=True)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the driver on the study, with the cluster as its launcher."""
        self.write()
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVE, self.module,
             "--study", "value", "--launcher", "slurm", *arguments],
            cwd=self.root,
            env={
                **self.cluster.environment,
                "FAKE_TRIALS": str(self.root / "trials"),
                "PYTHONPATH": str(Path(__file__).parents[3]),
            },
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
            text=True,
            start_new_session=True,
        )  # fmt: skip
        self.drivers.append(driver)
        return driver

    def starts(self) -> list[tuple[str, str, int]]:
        """Return ``value seed``, node and first step of each start of a trial, in order."""
        lines = (line.split() for line in self._lines("trials"))
        return [(f"{value} {seed}", node, int(step)) for value, seed, node, step in lines]

    def node_of(self, trial: str) -> str:
        """Return the node that a trial was last started on, once it is held there."""
        value, seed = (int(word) for word in trial.split())

        def held() -> bool:
            found = [run for run in self.starts() if run[0] == trial]
            return bool(found) and self.read(value, seed, "progress.json").get("step") == 5

        wait_for(held, f"trial {trial} at its middle step")
        return [node for name, node, _ in self.starts() if name == trial][-1]

    def read(self, value: int, seed: int, name: str) -> dict[str, Any]:
        """Return a JSON file of a run directory; an empty object if there is none."""
        try:
            found: dict[str, Any] = json.loads((self.run_dir(value, seed) / name).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def score(self, value: int, seed: int) -> float:
        """Return the metric of a finished trial."""
        found: float = self.read(value, seed, "result.json")["metrics"]["test/top1"]
        return found


@pytest.fixture
def slurm_lab(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cluster: Cluster
) -> Iterator[SlurmLab]:
    """A lab on the cluster, whose drivers do not outlive the test."""
    lab = SlurmLab(tmp_path, capsys, cluster)
    yield lab
    lab.close()
