"""Stopping when asked to: SIGTERM and SIGUSR1, as schedulers and users send them.

A training that is stopped saves a checkpoint first, so a signal may only be noted while it runs;
before that, and in programs that never look, it ends the process at once. Either way the exit
status says that the run is to go on some time: a process that a signal ended could look as if it
had finished.

Schedulers send a signal to every process of a job. Those forked from this one, such as workers that
load data, leave it to this one: it may need them until it has stopped.
"""

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

EXIT_STATUS = 75
"""Of a process that stopped because it was asked to (EX_TEMPFAIL of sysexits.h)."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequested(SystemExit):
    """The process was asked to stop; no library may take it for an error to recover from.

    Args:
        status: Its exit status.
    """

    def __init__(self, status: int = EXIT_STATUS) -> None:
        super().__init__(status)


class _State:
    requested = False
    watched = False
    guarded = False  # forks, which cannot be undone
    previous: dict[signal.Signals, Any] = {}  # noqa: RUF012 - there is one process


def _note(number: int, frame: FrameType | None) -> None:
    again, _State.requested = _State.requested, True
    if not (again or _State.watched):
        raise StopRequested


def _before_fork() -> None:
    if _State.previous:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _after_fork() -> None:
    if _State.previous:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _in_fork() -> None:
    """Let only the process that this one was forked from end it."""
    if _State.previous:  # the signals stay blocked: handlers cannot tell who has sent them
        threading.Thread(target=_heed, args=(os.getppid(),), daemon=True).start()


def _heed(parent: int) -> None:
    while signal.sigwaitinfo(SIGNALS).si_pid != parent:
        pass
    os._exit(0)


def install() -> bool:
    """Note requests from now on; return False if that is so already, or cannot be."""
    if _State.previous or threading.current_thread() is not threading.main_thread():
        return False
    if not _State.guarded:
        _State.guarded = True
        os.register_at_fork(
            before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_fork
        )
    _State.previous = {number: signal.signal(number, _note) for number in SIGNALS}
    return True


def uninstall() -> None:
    """Handle the signals as before `install`."""
    for number, handler in _State.previous.items():
        signal.signal(number, handler)
    _State.previous = {}
    _State.requested = _State.watched = False


@contextlib.contextmanager
def heeded(wanted: bool) -> Iterator[None]:
    """Note requests meanwhile if they are `wanted`; an error after one counts as stopping.

    Other processes of the run may stop sooner, which breaks connections to them. What is really
    broken will break again.
    """
    installed = wanted and install()
    try:
        yield
    except Exception as error:
        if not requested():
            raise
        traceback.print_exc()
        raise StopRequested from error
    finally:
        if installed:
            uninstall()


def watch() -> None:
    """Promise to look at `requested` often: from now on a signal does no more than that."""
    _State.watched = True


def requested() -> bool:
    """Return whether a signal has come."""
    return _State.requested
