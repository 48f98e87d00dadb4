"""The inside of a trial's process: made ready here, and then the command line as if by hand."""

import contextlib
import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path

from attnlab.ablation import rundir

PRELOAD = "ATTNLAB_PRELOAD"
"""Environment variable of the fork server with the names of modules (`warm`)."""
_PR_SET_PDEATHSIG = 1


def run_command(
    module: str,
    arguments: Sequence[str],
    log: Path,
    lock: Path | None,
    environment: Mapping[str, str],
    cores: Collection[int],
) -> None:
    """Run ``python -m module *arguments`` in this process, a fresh child of the fork server.

    Its output is appended to the file `log`, and `lock` is held for as long as it lives. It is
    pinned to `cores`, if there are any.
    """
    # A session of its own keeps the terminal's Ctrl-C away, which the driver answers for all.
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with_driver()
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except FileNotFoundError:  # somebody has just removed the directory, as the driver will see
        raise SystemExit(1) from None
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(output, stream.fileno())
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.close(output)
    os.environ.pop(PRELOAD, None)
    os.environ.update(environment)
    if cores:
        os.sched_setaffinity(0, cores)
    source = environment.get("PYTHONPATH")  # multiprocessing has put back the driver's own path
    sys.path[:0] = source.split(os.pathsep) if source else []
    multiprocessing.set_start_method(None, force=True)  # the fork server is not for its workers
    sys.argv = [module, *arguments]
    with rundir.locked(lock, "in use") if lock else contextlib.nullcontext():
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _die_with_driver() -> None:
    """See to it that no trial outlives its driver, which a second start would meet."""
    if sys.platform == "linux":  # the fork server may be killed, too; it alone is our parent
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    driver = multiprocessing.parent_process()
    assert driver is not None

    def watch() -> None:
        connection.wait([driver.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="watch-driver", daemon=True).start()
