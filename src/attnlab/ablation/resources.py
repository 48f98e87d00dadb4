"""What this machine has, and how trials share it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attnlab.ablation.errors import UserError
from attnlab.ablation.schema import Profile


@dataclass(frozen=True)
class Slot:
    """The part of this machine that one trial has at a time.

    Attributes:
        environment: What confines its threads and GPUs.
        cores: The cores it is pinned to; empty where it may run on all of them.
    """

    environment: Mapping[str, str]
    cores: frozenset[int] = frozenset()


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


def shares(workers: int, threads: int) -> list[frozenset[int]]:
    """Return the cores of each of `workers` trials of so many threads, neighbours together.

    No trial is confined where they want more cores than there are, since the kernel then shares
    out better than any fixed plan, nor where the machine cannot do it.
    """
    anywhere = [frozenset[int]()] * workers
    if not hasattr(os, "sched_getaffinity"):
        return anywhere
    # A container's quota limits how many cores are busy, not which ones.
    allowed = sorted(os.sched_getaffinity(0), key=_place)
    each = len(allowed) // workers
    if workers == 1 or each < threads or workers * threads > cores():
        return anywhere
    return [frozenset(allowed[index * each : (index + 1) * each]) for index in range(workers)]


def oom_kills() -> int:
    """Return how many processes of this machine the kernel has killed for want of memory."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


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


def environment(profile: Profile) -> dict[str, str]:
    """Return what confines a trial, whichever GPUs it may get."""
    hidden = {} if profile.gpus_per_cell else {"CUDA_VISIBLE_DEVICES": ""}
    return {"OMP_NUM_THREADS": str(profile.threads_per_cell), **hidden}


def _place(core: int) -> tuple[int, int, int]:
    """Return where a core is, so that the halves of one physical core are neighbours."""
    topology = Path(f"/sys/devices/system/cpu/cpu{core}/topology")
    try:
        package, physical = (
            int((topology / name).read_text()) for name in ("physical_package_id", "core_id")
        )
    except (OSError, ValueError):
        return 0, core, core
    return package, physical, core
