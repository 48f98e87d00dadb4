"""What this machine has, and how trials share it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from attnlab.ablation.errors import UserError
from attnlab.ablation.schema import Profile


def cores() -> int:
    """Return how many CPU cores this process may use, a container's quota included."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed or 1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or a quota of "max"
        return allowed or 1


def python() -> str:
    """Return what to type for the Python that runs this."""
    found = shutil.which("python")
    return "python" if found == sys.executable else sys.executable


def gpus() -> list[str]:
    """Return the identifiers of the GPUs this process may use, in the words of CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [each for each in visible.split(",") if each]
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(index) for index, _ in enumerate(listing.stdout.splitlines())]


def room(profile: Profile) -> int:
    """Return how many trials this machine has room for at a time; 0 where it lacks the GPUs."""
    if profile.gpus_per_cell:
        return len(gpus()) // profile.gpus_per_cell
    return max(1, cores() // profile.threads_per_cell)


def overload(profile: Profile, workers: int) -> str:
    """Return what is wrong with `workers` trials at a time; empty where the cores suffice."""
    threads, found = profile.threads_per_cell, cores()
    if workers * threads <= found:
        return ""
    return (
        f"{workers} trials at a time of {threads} thread{'s' * (threads > 1)} each want "
        f"{workers * threads} cores; "
        f"this machine has {found}: they slow each other down"
    )


def slots(profile: Profile, workers: int) -> list[dict[str, str]]:
    """Return the environment of each of the `workers` trials that run at a time.

    Raises:
        UserError: There are too few GPUs.
    """
    each = profile.gpus_per_cell
    devices = gpus() if each else []
    if workers < 1 or each * workers > len(devices):
        raise UserError(
            f"profile {profile.name} takes {each} GPUs for each of {max(1, workers)} trials at a "
            f"time; this machine shows {len(devices)}"
        )
    return [
        {
            "OMP_NUM_THREADS": str(profile.threads_per_cell),
            "CUDA_VISIBLE_DEVICES": ",".join(devices[index * each : (index + 1) * each]),
        }
        for index in range(workers)
    ]
