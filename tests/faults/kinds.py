"""What can go wrong: each fault is a function that does it, and says to what."""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.faults import processes
from tests.faults.study import Study

Needs = Literal["driver", "none", "any"]
"""Whether a fault needs a running driver, needs that there is none, or comes at any time."""


@dataclass
class Scene:
    """Where faults happen.

    Attributes:
        study: The study.
        chance: Where all choices come from.
        driver: The running driver, if any.
        full: Whether the disk is a small one that can be filled.
        lost: How often a finished result was destroyed, by cell.
        skew: Seconds by which the clock of the next driver is fast.
    """

    study: Study
    chance: random.Random
    full: bool
    driver: subprocess.Popen[bytes] | None = None
    lost: dict[str, int] = field(default_factory=dict)
    skew: float = 0.0

    @property
    def pid(self) -> int:
        assert self.driver is not None
        return self.driver.pid

    def lose(self, run_dir: Path) -> None:
        if (run_dir / "result.json").exists():
            cell = run_dir.parent.name
            self.lost[cell] = self.lost.get(cell, 0) + 1

    def running(self) -> list[Path]:
        """Return the run directories in which a process lives."""
        return [path for path in self.study.run_dirs() if processes.holder(path)]


class NothingThereError(Exception):
    """There is no target for this fault at the moment."""


Fault = Callable[[Scene], str]


def _signal_trial(scene: Scene, number: signal.Signals) -> str:
    held = {processes.holder(path): path.parent.name for path in scene.study.run_dirs()}
    living = processes.trials(scene.pid)
    if not living:
        raise NothingThereError
    pid = scene.chance.choice(sorted(living))
    _kill(pid, number)
    return f"{pid} {held.get(pid, '(a check, or not yet begun)')}"


def kill_trial(scene: Scene) -> str:
    """Kill -9 a trial."""
    return _signal_trial(scene, signal.SIGKILL)


def stop_trial(scene: Scene) -> str:
    """SIGTERM to a trial, by somebody else than its driver."""
    return _signal_trial(scene, signal.SIGTERM)


def preempt_trial(scene: Scene) -> str:
    """SIGUSR1 to a trial, as a scheduler warns it."""
    return _signal_trial(scene, signal.SIGUSR1)


def kill_worker(scene: Scene) -> str:
    """Kill -9 the fork server, and with it all trials."""
    pid = processes.server(scene.pid)
    if pid is None:
        raise NothingThereError
    _kill(pid, signal.SIGKILL)
    return str(pid)


def kill_driver(scene: Scene) -> str:
    """Kill -9 the driver."""
    _kill(scene.pid, signal.SIGKILL)
    return str(scene.pid)


def stop_driver(scene: Scene) -> str:
    """SIGTERM to the driver."""
    _kill(scene.pid, signal.SIGTERM)
    return str(scene.pid)


def fill_disk(scene: Scene) -> str:
    """Leave no room on the disk of the runs for a while."""
    seconds = scene.chance.uniform(0.3, 3.0)
    if not scene.full:
        return _limit_files(scene, seconds)
    filler = scene.study.output.parent / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    time.sleep(seconds)
    filler.unlink()
    return f"{seconds:.1f} s"


def _limit_files(scene: Scene, seconds: float) -> str:
    """Let the driver and its trials write no file, which needs no rights."""
    pids = [scene.pid, *processes.trials(scene.pid)]
    for pid in pids:
        _limit(pid, 0)
    time.sleep(seconds)
    for pid in pids:
        _limit(pid, resource.RLIM_INFINITY)
    return f"{seconds:.1f} s, by a limit of {len(pids)} processes"


def _limit(pid: int, size: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def tear_journal(scene: Scene) -> str:
    """Cut off the end of the journal, or leave half a line at its end."""
    path = scene.study.journal
    if not path.exists() or not path.stat().st_size:
        raise NothingThereError
    if scene.chance.random() < 0.5:
        size = scene.chance.randrange(path.stat().st_size)
        os.truncate(path, size)
        return f"cut to {size} bytes"
    with path.open("ab") as file:
        file.write(b'{"op_code": 4, "worker_id": "to')
    return "half a line added"


def tear_result(scene: Scene) -> str:
    """Cut off the end of a result."""
    found = sorted(scene.study.directory.glob("*/seed*/result.json"))
    if not found:
        raise NothingThereError
    path = scene.chance.choice(found)
    scene.lose(path.parent)
    os.truncate(path, scene.chance.randrange(path.stat().st_size))
    return path.parent.parent.name


def tear_notes(scene: Scene) -> str:
    """Cut off the end of a note or a checkpoint, or remove what only the driver knew."""
    names = ("attempt.json", "driver.json", "progress.json", "*.ckpt", "checkpoints/*.ckpt")
    found = [path for name in names for path in scene.study.directory.glob(f"*/seed*/{name}")]
    if not found:
        raise NothingThereError
    path = scene.chance.choice(sorted(found))
    if path.name == "driver.json":
        path.unlink()
        return f"{path.relative_to(scene.study.directory)} removed"
    os.truncate(path, scene.chance.randrange(max(1, path.stat().st_size)))
    return str(path.relative_to(scene.study.directory))


def change_clock(scene: Scene) -> str:
    """Move the times of all files, and the clock of the next driver, by up to two days."""
    skew = scene.chance.uniform(-172_800, 172_800)
    for path in scene.study.directory.rglob("*"):
        try:
            status = path.stat()
            os.utime(path, (status.st_atime + skew, status.st_mtime + skew))
        except FileNotFoundError:
            continue
    scene.skew = scene.chance.uniform(-172_800, 172_800)
    return f"files by {skew:+.0f} s, the next driver's clock by {scene.skew:+.0f} s"


def delete_run(scene: Scene) -> str:
    """Remove a run directory."""
    return _delete(scene, scene.study.run_dirs())


def delete_running(scene: Scene) -> str:
    """Remove the directory of a trial that runs."""
    return _delete(scene, scene.running())


def _delete(scene: Scene, found: Sequence[Path]) -> str:
    if not found:
        raise NothingThereError
    path = scene.chance.choice(found)
    scene.lose(path)
    shutil.rmtree(path, ignore_errors=True)
    return path.parent.name


def second_driver(scene: Scene) -> str:
    """Start a second driver, which must say so and leave."""
    done = scene.study.run()
    if scene.driver is not None and scene.driver.poll() is None:
        assert done.returncode == 2, done
        assert f"is driven already by process {scene.pid}" in done.stderr, done.stderr
    return f"exit code {done.returncode}: {done.stderr.strip()}"


def kill_collector(scene: Scene) -> str:
    """Kill -9 `collect` at any moment of its work."""
    seconds = scene.chance.uniform(0.2, 1.5)
    collector = subprocess.Popen(
        scene.study.command("collect"),
        cwd=scene.study.folder,
        env=scene.study.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    collector.kill()
    code = collector.wait()
    return f"after {seconds:.1f} s, exit code {code}"


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        raise NothingThereError from None


KINDS: dict[str, tuple[Fault, Needs]] = {
    "kill -9 of a trial": (kill_trial, "driver"),
    "SIGTERM to a trial": (stop_trial, "driver"),
    "SIGUSR1 to a trial": (preempt_trial, "driver"),
    "kill -9 of the fork server": (kill_worker, "driver"),
    "kill -9 of the driver": (kill_driver, "driver"),
    "SIGTERM to the driver": (stop_driver, "driver"),
    "full disk": (fill_disk, "driver"),
    "directory of a running trial removed": (delete_running, "driver"),
    "second driver": (second_driver, "driver"),
    "torn journal": (tear_journal, "any"),
    "torn result": (tear_result, "any"),
    "torn note or checkpoint": (tear_notes, "any"),
    "run directory removed": (delete_run, "any"),
    "clock changed": (change_clock, "none"),
    "kill -9 of the collector": (kill_collector, "none"),
}
