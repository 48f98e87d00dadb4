"""Real trainings on a real SLURM of two nodes: what they reach does not show what befell them."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ablation.slurm.cluster import wait_for
from tests.ablation.slurm.conftest import SlurmLab
from tests.ablation.slurm.processes import commands

BASE = yaml.safe_load("""
model:
  class_path: attnlab.tasks.classification.ClassificationTask
  init_args:
    backbone:
      class_path: attnlab.backbones.lisa_vit.LisaViT
      init_args:
        mixer:
          class_path: attnlab.operators.lisa.LiSA
          init_args: {num_rpes: 2, key_dim: 8, approximation: none}
        image_size: 32
        patch_size: 8
        in_channels: 1
        width: 16
        depth: 1
        heads: 2
        mlp_ratio: 2
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 3.0e-3}}
data:
  class_path: attnlab.data.digits_pair.DigitsPair
  init_args: {batch_size: 32, train_size: 640}
trainer:
  accelerator: cpu
  max_steps: 30
  val_check_interval: 10
  check_val_every_n_epoch: null
  num_sanity_val_steps: 0
  enable_model_summary: false
  enable_checkpointing: false
  enable_progress_bar: false
""")


@pytest.fixture
def training_lab(slurm_lab: SlurmLab, monkeypatch: pytest.MonkeyPatch) -> SlurmLab:
    """A lab whose trials train, one on each node at a time."""
    (slurm_lab.root / "base.yaml").write_text(yaml.safe_dump(BASE))
    slurm_lab.module = "attnlab"
    slurm_lab.study["seeds"] = [0]
    profile = slurm_lab.stanzas["profiles"]["laptop"]
    profile["overrides"] = {}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return slurm_lab


def test_a_preempted_training_ends_with_the_numbers_of_an_undisturbed_one(
    training_lab: SlurmLab,
) -> None:
    # Two cells that differ in what no number depends on; one of them is preempted.
    training_lab.study["axes"]["value"] = {"key": "trainer.log_every_n_steps", "values": [7, 11]}
    training_lab.study["baseline"] = {"value": 7}
    driver = training_lab.start()
    disturbed = hold_after_first_validation(training_lab, 7)
    node = training_lab.read(7, 0, "attempt.json")["node"]
    training_lab.cluster.preempt(node)
    code, _, err = training_lab.finish(driver, 120)
    assert (code, err) == (0, "")
    assert training_lab.read(7, 0, "attempt.json")["resumed"]
    assert training_lab.read(7, 0, "attempt.json")["number"] == 2
    assert training_lab.read(11, 0, "attempt.json")["number"] == 1
    assert numbers(training_lab, 7) == numbers(training_lab, 11)
    lines = [(training_lab.run_dir(value, 0) / "metrics.jsonl").read_text() for value in (7, 11)]
    assert len(lines[0].splitlines()) == 3
    assert lines[0] == lines[1]
    assert not list(disturbed.glob("**/*.ckpt"))


def test_one_training_spans_two_nodes(
    training_lab: SlurmLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both nodes are this machine, whose name need not lead to it.
    monkeypatch.setitem(training_lab.cluster.environment, "MASTER_ADDR", "127.0.0.1")
    monkeypatch.setitem(training_lab.cluster.environment, "GLOO_SOCKET_IFNAME", "lo")
    training_lab.study["axes"]["value"] = {"key": "trainer.log_every_n_steps", "values": [7]}
    training_lab.study["baseline"] = {"value": 7}
    training_lab.stanzas["profiles"]["laptop"]["nodes_per_cell"] = 2
    code, _, err = training_lab.finish(training_lab.start(), 120)
    assert (code, err) == (0, "")
    (job,) = training_lab.cluster.jobs()
    assert training_lab.cluster.details(job.id)["NodeList"] == "n[1-2]"
    log = (training_lab.run_dir(7, 0) / "log.txt").read_text()
    assert all(f"GLOBAL_RANK: {rank}, MEMBER: {rank + 1}/2" in log for rank in (0, 1))
    assert training_lab.read(7, 0, "result.json")["steps"] == 30
    assert training_lab.read(7, 0, "result.json")["epochs"] == 3  # of 10 steps: half for each node


def hold_after_first_validation(lab: SlurmLab, value: int) -> Path:
    """Freeze a training in its midst, until SLURM tells it to go on and stop."""
    wait_for(lambda: list(lab.directory.glob(f"value={value}-*/seed0")), "the trial", 60)
    run_dir = lab.run_dir(value, 0)
    wait_for((run_dir / "metrics.jsonl").exists, "its first validation", 60)
    place = "/".join(run_dir.parts[-2:])
    pids = [
        pid
        for pid, words in commands()
        if words[1:3] == ["-m", "attnlab"] and any(word.endswith(place) for word in words)
    ]
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGSTOP)
    return run_dir


def numbers(lab: SlurmLab, value: int) -> dict[str, Any]:
    """Return the metrics of a finished trial but for those that measure the machine."""
    metrics = lab.read(value, 0, "result.json")["metrics"]
    return {key: number for key, number in metrics.items() if not key.startswith("perf/")}
