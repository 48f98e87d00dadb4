"""A run of two processes: it stops as one, goes on with the same numbers, and fails as one."""

import multiprocessing
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from attnlab.callbacks import checkpoints
from tests.callbacks.test_resume import BASE, config, fit, folder, interruption, outcome

__all__ = ["folder"]

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    return {**place, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


def _rank(rank: int, changes: dict[str, str], arguments: tuple[Any, ...]) -> None:
    os.environ |= {**changes, "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    torch.set_num_threads(1)  # a process that was forked cannot use threads of the one before it
    with warnings.catch_warnings(action="ignore"):
        os._exit(fit(*arguments))


def both(*arguments: Any) -> list[int | None]:
    """Return the exit codes of two processes; forked, they import nothing."""
    changes, fork = environment(), multiprocessing.get_context("fork")
    ranks = [fork.Process(target=_rank, args=(rank, changes, arguments)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
        rank.kill()
        rank.join()
    return [rank.exitcode for rank in ranks]


@pytest.fixture
def base(folder) -> Path:
    trainer = {"devices": 2, "strategy": "ddp", "num_sanity_val_steps": 0}
    return config(folder, trainer={**BASE["trainer"], **trainer})


def test_two_processes_stop_go_on_and_fail_as_one(base, folder):
    assert both(base, "whole") == [0, 0]
    # One gets the signal. The other leaves with 0, lest Lightning, had it started it, kill the one.
    assert both(base, "run", *interruption("on_train_batch_end", 3, rank=0)) == [75, 0]
    failed = both(base, "run", *interruption("on_train_batch_start", 1, rank=1, number=0))
    assert failed[1] == 1
    assert failed[0] not in (0, 75)
    assert not Path("run/result.json").exists()
    assert both(base, "run") == [0, 0]
    assert outcome(folder / "run") == outcome(folder / "whole")


def test_what_lightning_starts_stops_with_what_started_it(base):
    hook = interruption("on_train_batch_end", 3, rank=0)
    options = ["--config", str(base), "--run_dir", "run", *hook]
    command = [sys.executable, "-m", "attnlab", "fit", *options]
    ended = subprocess.run(command, env={**os.environ, **environment()}, timeout=60, check=False)
    assert ended.returncode == 75
    saved = torch.load(Path("run", checkpoints.STOPPED), weights_only=False)
    assert saved["global_step"] == 3
