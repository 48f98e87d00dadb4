"""The processes of a driver, as Linux lists them."""

import os
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started and that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def lives(pid: int) -> bool:
    """Return whether a process lives; one that is dead and not yet waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def server(driver: int) -> int | None:
    """Return the fork server of a driver."""
    for pid in children(driver):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"forkserver" in words:
            return pid
    return None


def trials(driver: int) -> list[int]:
    """Return the processes that a driver's fork server has started."""
    found = server(driver)
    return [] if found is None else children(found)


def holder(run_dir: Path) -> int | None:
    """Return the process that has written itself into the lock of a run directory, if it lives."""
    try:
        words = (run_dir / ".lock").read_text().split()
        pid = int(words[1])
        os.kill(pid, 0)
    except (OSError, ValueError, IndexError):
        return None
    return pid
