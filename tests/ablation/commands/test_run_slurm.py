"""`run --launcher slurm` as a process: from a fake scheduler to the report."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnlab.ablation import attempts
from tests.ablation.conftest import ALL, Lab, wait_until
from tests.ablation.slurm.faked import Faked


class SlurmLab(Lab):
    """A lab beside a fake scheduler, which runs what it is given."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(root, capsys)
        self.slurm = Faked(root / "slurm")
        self.slurm.say("runs")

    def on_slurm(self, *arguments: str) -> tuple[int, str, str]:
        return self.drive("--launcher", "slurm", *arguments)


@pytest.fixture
def lab(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[SlurmLab]:
    lab = SlurmLab(tmp_path, capsys)
    for name, value in lab.slurm.environment.items():
        monkeypatch.setenv(name, value)
    yield lab
    lab.close()


def commit(lab: Lab) -> None:
    """Make the lab a repository with one commit and one change."""
    (lab.root / ".gitignore").write_text("runs\nslurm\ntrials\nchecks\n")
    lab.write()
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", lab.root, *who, *words], check=True)
    (lab.root / "base.yaml").write_text("model: {value: 1, blocks: [{width: 1}]}\n")


def test_a_study_runs_as_one_array_and_from_a_copy_of_the_code(lab: SlurmLab) -> None:
    commit(lab)
    lab.behave("raise0")
    code, out, err = lab.on_slurm("--workers", "2")
    assert (code, err) == (1, "")
    commit_id = subprocess.check_output(["git", "-C", lab.root, "rev-parse", "HEAD"], text=True)
    assert f"code: {commit_id[:7]} + 2 changed files\n" in out
    assert "by SLURM, 2 at a time" in out
    assert "failed value=0 seed 1: RuntimeError: value 0 blew up" in out
    assert sorted(lab.slurm.states(1)) == ["COMPLETED", "COMPLETED", "FAILED", "FAILED"]
    assert sorted(lab.trainings()) == ALL
    line = (lab.run_dir(1, 0) / "log.txt").read_text().splitlines()[0]
    (copy,) = (path for path in (lab.root / "runs/ablations/.code").iterdir())
    assert f"--config {copy}/base.yaml" in line
    (lab.run_dir(1, 1) / "result.json").unlink()
    lab.behave("")
    code, out, _ = lab.on_slurm("--retry", "failed")
    assert code == 1  # the one whose result is gone had not failed
    assert sorted(lab.trainings()[4:]) == ["0 0", "0 1"]
    assert len(lab.slurm.jobs) == 2


def test_detached_drivers_follow_one_another_to_the_end(lab: SlurmLab) -> None:
    commit(lab)
    lab.slurm.say("limit", "4")
    lab.behave("raise0")
    (lab.root / "cluster.yaml").write_text("max_submitted: 3\npartition: gpu\n")
    code, out, err = lab.on_slurm("--cluster", "cluster.yaml", "--detach")
    assert (code, err) == (0, "")
    assert "in SLURM's queue: 3 trials, jobs 1\n" in out
    assert "job 2 then submits 1 more, runs again what may be, and reports\n" in out
    assert lab.slurm.jobs["2"]["options"]["dependency"] == "afterany:1"
    assert lab.slurm.jobs["2"]["options"]["partition"] == "gpu"
    lab.study["axes"]["value"]["values"] = [0, 1, 2]
    lab.write()  # which the driver that follows does not mind
    report = lab.directory / ".slurm/driver.out"
    wait_until(lambda: report.exists() and "are missing" in report.read_text(), 60)
    assert sorted(lab.trainings()) == ALL  # and no error twice
    assert "reported; value=1 seed 0: 0.1; value=1 seed 1: 0.11" in report.read_text()


def test_trials_that_no_longer_belong_are_shown_and_cancelled_on_demand(lab: SlurmLab) -> None:
    (lab.slurm.folder / "runs").unlink()
    assert lab.on_slurm("--detach")[0] == 0
    lab.study["axes"]["value"]["values"] = [1]
    code, out, _ = lab.on_slurm("--detach")
    assert code == 0
    assert (
        "2 queued trials no longer belong to the study (1_0 1_2); --cancel-stale cancels them\n"
        "2 trials are in SLURM's queue already; they are not submitted again\n"
    ) in out
    assert lab.slurm.states(1) == ["PENDING"] * 4
    lab.on_slurm("--detach", "--cancel-stale")
    assert lab.slurm.states(1) == ["CANCELLED", "PENDING", "CANCELLED", "PENDING"]


def test_a_metric_that_is_not_logged_names_what_slurm_still_runs(lab: SlurmLab) -> None:
    lab.study["metric"] = "test/top2"
    lab.behave("wait1")
    code, _, err = lab.on_slurm()
    (lab.root / "gate").touch()
    wait_until(lambda: lab.slurm.states(1) == ["COMPLETED"] * 4)
    assert code == 2
    assert err.startswith("run_ablation: error: study value: metric 'test/top2' was not logged by ")
    assert err.endswith(
        "; leaving 3 trials in SLURM's queue (end them by: scancel 1); the same command follows "
        "them again\n"
    )


def test_refusals_are_one_line_and_leave_nothing_behind(lab: SlurmLab) -> None:
    lab.slurm.say("refusal", "Batch job submission failed: Invalid account\n")
    code, _, err = lab.on_slurm()
    assert (code, err) == (
        2,
        "run_ablation: error: sbatch refused the job: Batch job submission failed: "
        "Invalid account\n",
    )
    assert list((lab.directory / ".slurm").iterdir()) == []
    assert lab.call("--detach") == (2, "", "run_ablation: error: --detach needs --launcher slurm\n")
    (lab.root / "cluster.yaml").write_text("partition: cpu,gpus\n")
    assert lab.call("--launcher", "slurm", "--cluster", "cluster.yaml") == (
        2,
        "",
        "run_ablation: error: unknown partition 'gpus' (did you mean 'gpu'?); allowed: cpu, gpu\n",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(lab.root))
        code, _, err = lab.call("--launcher", "slurm")
    assert code == 2
    assert err.startswith("run_ablation: error: there is no SLURM on this machine (sinfo is not ")
    assert err.count("\n") == 1
    assert attempts.read_attempt(lab.directory) is None
