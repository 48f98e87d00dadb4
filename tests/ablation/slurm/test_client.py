"""What SLURM's commands refuse, in one line; and scripts that bash reads as they were meant."""

import os
import subprocess
from pathlib import Path

import pytest

from attnlab.ablation.errors import UserError
from attnlab.ablation.slurm import client, script
from attnlab.ablation.slurm.client import LimitError
from attnlab.ablation.slurm.script import Shape
from attnlab.ablation.slurm.settings import SlurmSettings
from tests.ablation.slurm.faked import Faked


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faked:
    faked = Faked(tmp_path / "slurm")
    for name, value in faked.environment.items():
        monkeypatch.setenv(name, value)
    return faked


def command(slurm: Faked, name: str, text: str) -> None:
    """Let a command do what `text` says."""
    (slurm.folder / name).write_text(f"#!/bin/sh\n{text}\n")


def test_an_unknown_partition_names_those_there_are(slurm: Faked, tmp_path: Path) -> None:
    slurm.say("refusal", "invalid partition specified: gpus\nsbatch: error: Batch job submission "
              "failed: Invalid partition name specified")  # fmt: skip
    with pytest.raises(UserError) as raised:
        client.submit(tmp_path / "batch.sh", ["--partition=gpus"])
    assert str(raised.value) == (
        "unknown partition 'gpus' (did you mean 'gpu'?); allowed: cpu, gpu"
    )


def test_any_other_refusal_is_slurms_own_reason(slurm: Faked, tmp_path: Path) -> None:
    slurm.say("refusal", "Batch job submission failed: Invalid qos specification\n")
    with pytest.raises(UserError) as raised:
        client.submit(tmp_path / "batch.sh", [])
    assert str(raised.value) == (
        "sbatch refused the job: Batch job submission failed: Invalid qos specification"
    )
    slurm.say("refusal", "QOSMaxSubmitJobPerUserLimit\n")
    with pytest.raises(LimitError, match="QOSMaxSubmitJobPerUserLimit"):
        client.submit(tmp_path / "batch.sh", [])


def test_a_machine_without_slurm_and_one_that_does_not_answer(
    slurm: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(slurm, "squeue", "exec sleep 60")
    monkeypatch.setattr(client, "TIMEOUT_S", 0.1)
    with pytest.raises(UserError, match=r"^squeue: no answer within 0 s$"):
        client.queue("attnlab-a")
    command(slurm, "squeue", "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1")
    monkeypatch.setattr(client, "TIMEOUT_S", 10.0)
    with pytest.raises(UserError, match=r"^squeue: Unable to contact slurm controller$"):
        client.queue("attnlab-a")
    command(slurm, "scontrol", "echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1")
    with pytest.raises(UserError, match="Socket timed out"):  # which is no end of a job
        client.fate("1_0")
    command(slurm, "scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert client.fate("1_0") == ("", 0)
    monkeypatch.setenv("PATH", str(slurm.folder / "empty"))
    with pytest.raises(UserError) as raised:
        client.queue("attnlab-a")
    assert str(raised.value) == (
        "there is no SLURM on this machine (squeue is not found); use --launcher local, or a "
        "machine that can submit jobs"
    )


def test_what_describes_the_drivers_own_job_is_not_passed_on(
    slurm: Faked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "7")
    monkeypatch.setenv("SLURM_CONF", "/etc/mine.conf")
    command(slurm, "sbatch", f"env > {tmp_path}/seen; echo '12;cluster'")
    assert client.submit(tmp_path / "batch.sh", []) == "12"
    seen = (tmp_path / "seen").read_text()
    assert "SLURM_CONF=/etc/mine.conf" in seen
    assert "SLURM_MEM_PER_NODE" not in seen


def test_a_script_keeps_blanks_and_quotes(tmp_path: Path) -> None:
    folder = tmp_path / "it's my $HOME"
    folder.mkdir()
    path = folder / "batch.sh"
    show = ("printf", "%s|", str(folder), "$INDEX", "a b")
    environment = {"PYTHONPATH": f"{folder}/src", "WORD": "two words"}
    script.write(path, ["SET=up"], environment, show)
    base = {"PATH": os.environ["PATH"], "INDEX": "7", "PYTHONPATH": "/mine"}
    seen = subprocess.run([path], env=base, capture_output=True, text=True, check=True)
    assert seen.stdout == f"{folder}|7|a b|"
    script.write(path, ["SET=up"], environment, ("sh", "-c", 'echo "$PYTHONPATH|$WORD|$SET"'))
    seen = subprocess.run([path], env=base, capture_output=True, text=True, check=True)
    assert seen.stdout == f"{folder}/src:/mine|two words|\n"


def test_a_trial_over_nodes_has_a_process_for_each_gpu(tmp_path: Path) -> None:
    settings = SlurmSettings(options={"time": "1:00:00"}, container=("box", "run"))
    shape = Shape(nodes=2, gpus=4, threads=32)
    options = script.options(settings, name="attnlab-a", folder=tmp_path / "50%", shape=shape)
    assert {"--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=8", "--gres=gpu:4"} <= {*options}
    assert f"--output={tmp_path}/50%%/%a.out" in options
    assert shape.launch(settings) == (
        "srun", "--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=8", "--kill-on-bad-exit=1",
        "box", "run",
    )  # fmt: skip
    assert shape.flags() == ("--trainer.devices=4", "--trainer.num_nodes=2")
    stated = SlurmSettings(options={"gres": "gpu:a100:4"}, cpus=3, signal_s=0)
    options = script.options(stated, name="attnlab-a", folder=tmp_path, shape=shape)
    assert "--cpus-per-task=3" in options
    assert [each for each in options if each.startswith("--gres")] == ["--gres=gpu:a100:4"]
    assert not [each for each in options if each.startswith("--signal")]
