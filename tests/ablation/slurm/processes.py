"""Finding and ending the processes of a test cluster, by the environment they began with.

As a program it does so for the cluster in a directory once its standard input has ended, which
happens when the process that holds the other end is killed.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)


def clean_up(root: Path) -> None:
    """End everything that belongs to the cluster in a directory, and remove that."""
    kill(root)
    shutil.rmtree(root, ignore_errors=True)


def kill(root: Path, *marks: str) -> None:
    """Kill the processes of a cluster whose environment has the marks, until none is left.

    A step starts further processes while others are killed, so one look is not enough.
    """
    deadline = time.monotonic() + 10
    while left := found(root, *marks):
        assert time.monotonic() < deadline, f"processes {left} do not die"
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def found(root: Path, *marks: str) -> list[int]:
    """Return the processes of a cluster whose environment has the marks."""
    wanted = {f"SLURM_CONF={root}/slurm.conf", *marks}
    return [pid for pid, words in _read("environ") if wanted <= set(words)]


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, below those the kernel gives to clients."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def commands() -> Iterator[tuple[int, list[str]]]:
    """Yield each other process that can be looked at, with the words of its command."""
    return _read("cmdline")


def _read(name: str) -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                words = (folder / name).read_bytes()
            except OSError:  # it ended, or it is not ours to look at
                continue
            yield int(folder.name), words.decode(errors="replace").split("\0")


if __name__ == "__main__":
    sys.stdin.read()
    clean_up(Path(sys.argv[1]))
