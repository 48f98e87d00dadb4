"""Studies on a real SLURM of two nodes: whatever happens, each trial ends exactly once."""

import os
import signal

from tests.ablation.slurm.cluster import wait_for
from tests.ablation.slurm.conftest import SlurmLab
from tests.ablation.slurm.slow_trial import STEPS, expected

MIDDLE = STEPS // 2


def test_one_array_runs_what_is_missing_and_no_error_twice(slurm_lab: SlurmLab) -> None:
    slurm_lab.behave("raise1")
    code, out, _ = slurm_lab.drive()
    assert code == 1
    assert "value 1 blew up" in out
    assert sorted(name for name, _, _ in slurm_lab.starts()) == ["0 0", "0 1", "1 0", "1 1"]
    assert {node for _, node, _ in slurm_lab.starts()} == {"n1", "n2"}
    assert slurm_lab.read(1, 0, "failure.json")["kind"] == "error"
    (first,) = {job.id.split("_")[0] for job in slurm_lab.cluster.jobs()}
    assert len(slurm_lab.cluster.jobs()) == 4
    slurm_lab.behave("")
    assert slurm_lab.drive()[0] == 0
    names = [name for name, _, _ in slurm_lab.starts()]
    assert sorted(names[4:]) == ["1 0", "1 1"]
    later = [job for job in slurm_lab.cluster.jobs() if not job.id.startswith(f"{first}_")]
    assert len(later) == 2
    for value in (0, 1):
        for seed in (0, 1):
            assert slurm_lab.score(value, seed) == expected(value, seed)


def test_preempted_and_timed_out_trials_are_requeued_and_go_on(slurm_lab: SlurmLab) -> None:
    slurm_lab.study["axes"]["value"]["values"] = [1]
    slurm_lab.behave("hold1")
    driver = slurm_lab.start()
    preempted, timed_out = slurm_lab.node_of("1 0"), slurm_lab.node_of("1 1")
    assert {preempted, timed_out} == {"n1", "n2"}
    slurm_lab.cluster.preempt(preempted)
    # What --signal sends before the time is up; the shortest time limit takes half a minute.
    job = slurm_lab.read(1, 1, "attempt.json")["job"]
    slurm_lab.cluster.run("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: slurm_lab.cluster.details(job)["JobState"] == "PENDING", "the requeue")
    (slurm_lab.root / "gate").touch()
    code, _, err = slurm_lab.finish(driver)
    assert (code, err) == (0, "")
    for seed in (0, 1):
        starts = [step for name, _, step in slurm_lab.starts() if name == f"1 {seed}"]
        assert starts == [0, MIDDLE]
        assert slurm_lab.score(1, seed) == expected(1, seed)
        attempt = slurm_lab.read(1, seed, "attempt.json")
        assert (attempt["number"], attempt["resumed"]) == (2, True)
        assert slurm_lab.cluster.details(attempt["job"])["Restarts"] == "1"


def test_a_lost_node_and_a_lost_driver_lose_no_trial(slurm_lab: SlurmLab) -> None:
    slurm_lab.study["axes"]["value"]["values"] = [1]
    slurm_lab.behave("hold1")
    driver = slurm_lab.start()
    lost, other = slurm_lab.node_of("1 0"), slurm_lab.node_of("1 1")
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    slurm_lab.cluster.kill_node(lost)
    jobs = {job.id for job in slurm_lab.cluster.jobs()}
    driver = slurm_lab.start()
    slurm_lab.read_until(driver, "2 followed")
    (slurm_lab.root / "gate").touch()
    code, _, err = slurm_lab.finish(driver)
    assert (code, err) == (0, "")
    assert {job.id for job in slurm_lab.cluster.jobs()} == jobs  # followed, not submitted again
    assert sorted(slurm_lab.starts()) == [
        ("1 0", lost, 0),
        ("1 0", other, MIDDLE),
        ("1 1", other, 0),
    ]
    assert [slurm_lab.score(1, seed) for seed in (0, 1)] == [expected(1, 0), expected(1, 1)]
