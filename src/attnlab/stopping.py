"""Stopping when asked to: SIGTERM and SIGUSR1, as schedulers and users send them.

A training that is stopped saves a checkpoint first, so a signal may only be noted while it runs;
before that, and in programs that never look, it ends the process at once. Either way the exit
status says that the run is to go on some time: a process that a signal ended could look as if it
had finished.
"""

import signal
import threading
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
    previous: dict[signal.Signals, Any] = {}  # noqa: RUF012 - there is one process


def _note(number: int, frame: FrameType | None) -> None:
    again, _State.requested = _State.requested, True
    if not (again or _State.watched):
        raise StopRequested


def install() -> bool:
    """Note requests from now on; return False if that is so already, or cannot be."""
    if _State.previous or threading.current_thread() is not threading.main_thread():
        return False
    _State.previous = {number: signal.signal(number, _note) for number in SIGNALS}
    return True


def uninstall() -> None:
    """Handle the signals as before `install`."""
    for number, handler in _State.previous.items():
        signal.signal(number, handler)
    _State.previous = {}
    _State.requested = _State.watched = False


def watch() -> None:
    """Promise to look at `requested` often: from now on a signal does no more than that."""
    _State.watched = True


def requested() -> bool:
    """Return whether a signal has come."""
    return _State.requested
