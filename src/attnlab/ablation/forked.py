"""Processes on this machine that start with torch imported already, from a fork server."""

import contextlib
import itertools
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from attnlab.ablation.errors import UserError
from attnlab.ablation.resources import Slot
from attnlab.ablation.trial import PRELOAD, run_command

OWN_MODULES = ("attnlab.ablation.cli", "attnlab.ablation.trial")
WARM = "attnlab.ablation.warm"
_CLASS_PATH = re.compile(r"class_path\W+(attnlab(?:\.\w+)+)\.\w+")
_TRIES = 6
_LOST = 255
"""What multiprocessing says of a process whose fork server was killed, and took it along."""


class Process:
    """A running process, the leader of a group with whatever it starts."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self._started = time.perf_counter()

    @property
    def sentinel(self) -> int:
        """What `multiprocessing.connection.wait` takes, ready when the process has ended."""
        return self._process.sentinel

    def ask(self) -> None:
        """Ask the process to end, and none that it started: those it ends itself."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill the process and whatever it started."""
        self._kill_group()
        self._process.kill()  # not yet the leader of its group

    def end(self) -> tuple[int, float]:
        """Wait until it has ended and leave nothing of it.

        Returns:
            Its exit code, minus the signal where one killed it, and the seconds it took.
        """
        self._process.join()
        wall_s = time.perf_counter() - self._started
        self._kill_group()
        exit_code = self._process.exitcode or 0
        return -signal.SIGKILL if exit_code == _LOST else exit_code, wall_s

    def _kill_group(self) -> None:
        try:
            if self._process.pid is not None:
                os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Forks:
    """Starts ``python -m`` commands from a fork server, which is started again if it dies.

    Args:
        module: What ``python -m`` runs.
        preload: Modules that the fork server imports.
        environment: Of the fork server, since some variables are read once, by an import.
    """

    def __init__(self, module: str, preload: Sequence[str], environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._known = False
        self._module = module
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*OWN_MODULES, *preload, WARM])

    def start(self, arguments: Sequence[str], log: Path, lock: Path | None, slot: Slot) -> Process:
        """Start a command; see `run_command`.

        Raises:
            UserError: The fork server dies whenever it is started.
        """
        if not self._known:  # before the fork server starts, for `warm`
            self._known = True
            os.environ[PRELOAD] = " ".join(_named(arguments))
        # The fork server and its children inherit this: Ctrl-C in the terminal is for the driver.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for number in range(_TRIES):
                process = self._context.Process(
                    target=run_command,
                    args=(self._module, arguments, log, lock, slot.environment, slot.cores),
                )
                try:
                    process.start()
                except (EOFError, ConnectionError):  # it is started again once it is quite dead
                    time.sleep(0.1 * 2**number)
                else:
                    return Process(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise UserError("the fork server of the trials died; see its output above")


def _named(arguments: Sequence[str]) -> list[str]:
    """Return the modules of this package that a command and its ``--config`` name."""
    texts = list(arguments)
    for word, value in itertools.pairwise(arguments):
        if word == "--config":
            with contextlib.suppress(OSError, UnicodeError):
                texts.append(Path(value).read_text(encoding="utf-8"))
    return sorted({name for text in texts for name in _CLASS_PATH.findall(text)})
