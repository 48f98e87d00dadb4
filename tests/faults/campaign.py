"""Injecting faults into a study until none is left, and comparing what came out of it."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tests.faults import processes
from tests.faults.kinds import KINDS, NothingThereError, Scene
from tests.faults.study import Study

DISK = "256m"
STARTS = 20
"""Undisturbed starts that the driver may need in the end."""
_PATIENCE_S = 60.0


class Campaign:
    """Faults in an order of chance.

    Args:
        study: The study they are injected into.
        faults: Their names.
        seed: Of all choices; what they meet depends on the machine's speed as well.
        log: Takes one line for each fault.
        full: Whether the study's disk is a small one of its own.
    """

    def __init__(
        self, study: Study, faults: Sequence[str], seed: int, log: TextIO, full: bool
    ) -> None:
        self.scene = Scene(study, random.Random(seed), full)
        self.injected: Counter[str] = Counter()
        self.starts = 0
        self._left = list(faults)
        self.scene.chance.shuffle(self._left)
        self._trials: list[int] = []
        self._log = log
        self._began = time.monotonic()

    def run(self) -> None:
        """Inject all faults, then let the driver finish."""
        try:
            if not self._disturb():
                self._finish()
            done = self.scene.study.run("collect")
            self.say("collect", done.stdout.strip() or done.stderr.strip())
            assert done.returncode == 0, done
        finally:
            if self._alive():
                os.killpg(self.scene.pid, signal.SIGKILL)
                self._end()

    def say(self, what: str, how: str) -> None:
        """Write a line of the log."""
        print(f"{time.monotonic() - self._began:7.1f} s  {what}: {how}", file=self._log, flush=True)

    def check(self, calm: Study) -> list[str]:
        """Return what differs from the undisturbed study `calm`; nothing if all is well."""
        study = self.scene.study
        expected, found = calm.results(), study.results()
        wrong = [f"lost: {cell}" for cell in expected.keys() - found.keys()]
        wrong += [f"not of the study: {cell}" for cell in found.keys() - expected.keys()]
        for cell in expected.keys() & found.keys():
            wrong += [
                f"{cell}: {part} was {expected[cell][part]}, is {found[cell][part]}"
                for part in expected[cell]
                if expected[cell][part] != found[cell][part]
            ]
        wrong += [
            f"journal: {cell} {count} times"
            for cell, count in study.journalled().items()
            if count != 1
        ]
        if missing := expected.keys() - study.journalled().keys():
            wrong.append(f"journal lacks {missing}")
        wrong += [
            f"finished too often: {cell}, {count} times, {self.scene.lost.get(cell, 0)} lost"
            for cell, count in self.finished().items()
            if count > 1 + self.scene.lost.get(cell, 0)
        ]
        return wrong

    def finished(self) -> Counter[str]:
        """Return how often a driver said of each cell that it was done."""
        cells = {path.parent.name.rpartition("-")[0]: path for path in self.scene.study.run_dirs()}
        counts: Counter[str] = Counter()
        for path in (self.scene.study.folder / "drivers").glob("*.log"):
            for line in path.read_text().splitlines():
                if "] done " in line:
                    name = line.partition("] done ")[2].partition(" seed ")[0]
                    counts[cells[name].parent.name] += 1
        return counts

    def _disturb(self) -> bool:
        """Inject all faults, and return whether the study is complete after the last one."""
        while self._left:
            self._start()
            while self._left and self._alive():
                self._wait()
                if not self._alive() or self._inject("driver"):
                    continue
                if all(KINDS[name][1] == "none" for name in self._left):
                    os.kill(self.scene.pid, signal.SIGTERM)
                    break
            code = self._end()
            if code == 0 and not self._left:
                return True
            for _ in range(self.scene.chance.randrange(1, 4)):
                self._inject("none")
            if code == 0:
                self._undo()
        return False

    def _undo(self) -> None:
        """Take away some results of a study that is complete, so that there is work to disturb."""
        found = self.scene.study.run_dirs()
        for run_dir in self.scene.chance.sample(found, len(found) // 4):
            self.scene.lose(run_dir)
            (run_dir / "result.json").unlink(missing_ok=True)
        self.say("(results taken away)", str(len(found) // 4))

    def _finish(self) -> None:
        self.scene.skew = 0.0
        for _ in range(STARTS):
            self._start()
            if self._end(timeout_s=1800.0) == 0:
                break

    def _start(self) -> None:
        study = self.scene.study
        folder = study.folder / "drivers"
        folder.mkdir(exist_ok=True)
        self.starts += 1
        with (folder / f"{self.starts:03}.log").open("wb") as output:
            self.scene.driver = subprocess.Popen(
                study.command("run", "--workers", "2"),
                cwd=study.folder,
                env=study.environment(self.scene.skew),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _alive(self) -> bool:
        return self.scene.driver is not None and self.scene.driver.poll() is None

    def _wait(self) -> None:
        """Wait until a trial runs, and some time more."""
        deadline = time.monotonic() + _PATIENCE_S
        while self._alive() and time.monotonic() < deadline and not self.scene.running():
            time.sleep(0.05)
        time.sleep(self.scene.chance.uniform(0.0, 3.0))

    def _inject(self, state: str) -> bool:
        """Inject the first fault left that can be now; False if there is none."""
        for name in self._left:
            fault, needs = KINDS[name]
            if needs not in (state, "any"):
                continue
            driver = self.scene.driver
            self._trials = [] if driver is None else processes.trials(driver.pid)
            try:
                self.say(name, fault(self.scene))
            except NothingThereError:
                continue
            self.injected[name] += 1
            self._left.remove(name)
            if name in ("kill -9 of the driver", "SIGTERM to the driver"):
                self._end()
            return True
        return False

    def _end(self, timeout_s: float = _PATIENCE_S) -> int:
        """Wait until the driver, if there is one, has ended, and return its exit code."""
        driver = self.scene.driver
        if driver is None:
            return -1
        try:
            code = driver.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(driver.pid, signal.SIGKILL)
            raise
        deadline = time.monotonic() + 5.0
        while any(map(processes.lives, self._trials)):
            assert time.monotonic() < deadline, "a trial has outlived its driver"
            time.sleep(0.02)
        self.say("driver ended", f"exit code {code}, start {self.starts}")
        self.scene.driver = None
        return code


@contextlib.contextmanager
def disk(path: Path) -> Iterator[bool]:
    """Mount a small disk at `path` where that is allowed, and say whether it is."""
    path.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(path)]
    mounted = os.geteuid() == 0 and not subprocess.run(words, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)
