"""Clusters side by side know nothing of each other, and leave nothing behind."""

import subprocess
import sys
from pathlib import Path

from tests.ablation.slurm import processes
from tests.ablation.slurm.cluster import Cluster
from tests.ablation.slurm.processes import wait_for

DIES = """
import os
from tests.ablation.slurm.cluster import Cluster
cluster = Cluster(nodes=1)
cluster.submit("srun sleep 60")
while not any(job.state == "RUNNING" for job in cluster.jobs()):
    pass
print(cluster.root, flush=True)
os.kill(os.getpid(), 9)
"""


def test_two_clusters_know_nothing_of_each_other(running: Cluster) -> None:
    with Cluster(nodes=1, MaxArraySize=5) as other:
        assert other.submit("true") == "1"
        assert running.jobs() == []
        assert "MaxArraySize            = 5" in other.run("scontrol", "show", "config")
        assert list(other.states()) == ["n1"]
    assert not other.root.exists()
    assert running.states() == {"n1": "idle", "n2": "idle"}


def test_nothing_outlives_a_killed_test(running: Cluster) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIES],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    root = Path(done.stdout.strip())
    assert root.name.startswith("slurm-")
    wait_for(lambda: not root.exists(), "its directory to go")
    assert processes.found(root) == []
