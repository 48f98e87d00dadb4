"""Where a run comes from: code, versions, machine."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

SNAPSHOT = Path(__file__).parents[3] / "snapshot.json"
"""Beside `src` where the code is a copy that the driver of the ablations took of a repository."""
VARIABLES = ("OMP_", "MKL_", "CUDA_", "CUBLAS_", "NCCL_", "TORCH_", "PYTORCH_", "PYTHONHASHSEED")
"""How the names begin of the environment variables that may change a result."""
PLACEMENT = (
    *("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"),
    *("SLURM_JOB_PARTITION", "SLURM_JOB_NODELIST", "SLURM_NTASKS", "PYTHONPATH"),
)
"""Environment variables that say where it was made."""
PACKAGES = (
    *("attnlab", "torch", "lightning", "torchmetrics", "jsonargparse", "numpy"),
    *("optuna", "tensorboard"),
)
PATCH = "changes.patch"
LARGEST_PATCH = 2**20
"""Bytes of a patch that are kept."""


def _output(*arguments: str) -> bytes | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None


def _git(*arguments: str) -> str | None:
    output = _output(*arguments)
    return None if output is None else output.decode(errors="replace").strip()


def _snapshot() -> dict[str, Any] | None:
    """Return what the driver says of the copy that this code is in, if it is in one."""
    try:
        told = json.loads(SNAPSHOT.read_bytes())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def git_state() -> dict[str, Any]:
    """Return commit, branch and whether tracked files differ; Nones outside a checkout.

    In a copy that the driver made, they are those of its origin, and ``code`` is its identity.
    """
    told = _snapshot()
    if told is not None:
        state = {name: told.get(name) or None for name in ("commit", "branch")}
        return {**state, "dirty": told.get("dirty"), "code": told.get("id")}
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": None if changes is None else bool(changes),
    }


def changes() -> bytes:
    """Return how the code differs from its commit, as a patch; one too long ends with a word."""
    try:
        told = SNAPSHOT.with_name(PATCH).read_bytes() if _snapshot() is not None else None
    except OSError:
        return b""
    patch = (_output("diff", "--binary", "HEAD") or b"") if told is None else told
    if len(patch) > LARGEST_PATCH:
        return patch[:LARGEST_PATCH] + b"\n# cut: the whole patch has %d bytes\n" % len(patch)
    return patch


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    installed = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **installed}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else ())
        if line.startswith("model name")
    )
    return next(names, platform.processor() or platform.machine())


def hardware() -> dict[str, Any]:
    """Return the processor, the cores this process may use, its threads, and the GPUs."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "host": platform.node(),
        "cpu": _cpu_name(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpus[0] if gpus else None,
        "gpus": len(gpus),
    }


def environment() -> dict[str, str]:
    """Return the environment variables that may change a result."""
    return {name: os.environ[name] for name in sorted(os.environ) if name.startswith(VARIABLES)}


def provenance(seed: int | None) -> dict[str, Any]:
    """Return everything a reader needs to repeat a run, ready for JSON."""
    return {
        "command": [sys.executable, "-m", "attnlab", *sys.argv[1:]],
        "directory": os.getcwd(),
        "seed": seed,
        "git": git_state(),
        "versions": versions(),
        "hardware": hardware(),
        "environment": environment(),
        "placement": {name: os.environ[name] for name in PLACEMENT if name in os.environ},
    }
