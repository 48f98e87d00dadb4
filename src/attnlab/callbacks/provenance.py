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
PACKAGES = ("attnlab", "torch", "lightning", "torchmetrics", "jsonargparse", "numpy")


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def git_state() -> dict[str, Any]:
    """Return commit, branch and whether files differ; Nones outside a checkout.

    Of a copy it is the state at the time of the copy, with ``snapshot``, the copy's identity.
    """
    if SNAPSHOT.exists():
        record = json.loads(SNAPSHOT.read_bytes())
        state = {name: record[name] or None for name in ("commit", "branch")}
        return {**state, "dirty": record["dirty"], "snapshot": record["id"]}
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": None if changes is None else bool(changes),
    }


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
    }
