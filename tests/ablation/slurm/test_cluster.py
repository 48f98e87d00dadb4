"""The cluster that the integration tests stand on does what they ask of it."""

from tests.ablation.slurm.cluster import Cluster, wait_for

WAIT = "--gres=gpu:1"
# Runs until it is told to stop, and asks to be run again; a second attempt ends at once.
TWICE = """
[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && exit 0
srun sleep 60
scontrol requeue "$SLURM_JOB_ID"
"""


def test_an_array_shares_the_gpus_of_the_nodes(cluster: Cluster) -> None:
    array = cluster.submit(TWICE, WAIT, "--array=0-2", "--requeue")
    wait_for(lambda: [j.state for j in cluster.jobs()].count("RUNNING") == 2, "two tasks")
    assert sorted((j.id, j.state) for j in cluster.jobs()) == [
        (f"{array}_0", "RUNNING"), (f"{array}_1", "RUNNING"), (f"{array}_2", "PENDING"),
    ]  # fmt: skip
    assert {j.node for j in cluster.jobs() if j.state == "RUNNING"} == {"n1", "n2"}


def test_a_higher_partition_preempts_and_the_job_comes_back(cluster: Cluster) -> None:
    job = cluster.submit(TWICE, WAIT, "--requeue", "--nodelist=n1")
    wait_for(lambda: cluster.details(job)["JobState"] == "RUNNING", "the job")
    urgent = cluster.preempt("n1")
    cluster.wait_jobs("COMPLETED")
    assert cluster.details(job)["Restarts"] == "1"
    assert cluster.details(urgent)["Restarts"] == "0"


def test_a_lost_node_is_down_and_its_job_goes_to_the_other(cluster: Cluster) -> None:
    job = cluster.submit(TWICE, WAIT, "--requeue")
    wait_for(lambda: cluster.details(job)["JobState"] == "RUNNING", "the job")
    (lost,) = (j.node for j in cluster.jobs())
    cluster.kill_node(lost)
    cluster.wait_jobs("COMPLETED")
    assert cluster.states()[lost].startswith("down")
    assert cluster.details(job)["Restarts"] == "1"
    assert cluster.details(job)["NodeList"] != lost
    cluster.start_node(lost)
    cluster.wait_idle(lost)


def test_two_clusters_know_nothing_of_each_other(cluster: Cluster) -> None:
    with Cluster(nodes=1, MaxArraySize=5) as other:
        assert other.submit("true") == "1"
        assert "MaxArraySize            = 5" in other.run("scontrol", "show", "config")
        assert len(other.states()) == 1
        root = other.root
    assert not root.exists()
    assert len(cluster.states()) == 2
