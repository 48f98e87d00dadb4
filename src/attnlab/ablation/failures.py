"""Why a trial's process ended without a result, and whether it makes sense to run it again.

Out of memory and transient failures are those that the same trial may survive when it is run again
unchanged: another process took the memory, a network or a file system hiccuped, someone killed it.
A full disk is one of them, since it says nothing about the trial and ends when somebody makes room.
Whatever Python raised otherwise would be raised again.
"""

import re
import signal
from pathlib import Path

from attnlab.ablation import rundir
from attnlab.ablation.attempts import Kind

STOPPED = 75
"""Exit code of a trial that was told to stop and saved where it was: it is run again."""
KERNEL_KILLED = "attnlab: error: out of memory: killed by the kernel"
"""What is added to the log of a trial where the kernel says that it did this."""

_MEMORY = re.compile(
    r"OutOfMemoryError|out of memory|_STATUS_ALLOC_FAILED|\bMemoryError\b|Cannot allocate memory"
    r"|can't allocate memory|not enough memory|std::bad_alloc|oom[-_ ]kill",
    re.IGNORECASE,
)
_TRANSIENT = re.compile(
    r"ncclSystemError|ncclRemoteError|ncclInternalError|NCCL (error|communicator was aborted)"
    r"|ProcessGroup\w+.*(timed out|timeout)|Watchdog caught collective"
    r"|DistNetworkError|DistStoreError|Connection (reset|refused|closed|aborted|timed out)"
    r"|ConnectionResetError|ConnectionRefusedError|ConnectionAbortedError|BrokenPipeError"
    r"|Stale (NFS )?file handle|Bus error|Input/output error|Remote I/O error"
    r"|Transport endpoint is not connected|Temporary failure in name resolution"
    r"|No space left on device|Disk quota exceeded|insufficient shared memory"
    r"|Too many open files|Resource temporarily unavailable"
    r"|DataLoader worker .*(exited unexpectedly|killed by signal)"
    r"|ECC error|devices? is/are busy or unavailable|GPU is lost|is in use by process",
)
_TIME = re.compile(r"DUE TO TIME LIMIT")
_TRANSIENT_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGBUS)


def classify(exit_code: int, log: Path) -> tuple[Kind, str]:
    """Say why a process failed that left no result and was not stopped.

    Args:
        exit_code: Of the process; minus the signal where one killed it, or 128 plus it as shells
            and schedulers report it.
        log: Its output, which tells more.

    Returns:
        The kind, and one line for people.
    """
    lines = re.split(r"[\r\n]+", rundir.log_tail(log))
    text = "\n".join(line for line in lines if not line.startswith(rundir.PROMPT))
    number = _killed_by(exit_code)
    error = rundir.last_error(log)
    # The whole end of the log counts: of several processes one fails, and the last line is of one
    # that lost its connection to it.
    if found := _MEMORY.search(text):
        return Kind.MEMORY, _line_of(text, found)
    if number == signal.SIGXCPU or _TIME.search(text):
        return Kind.TIME, "it ran into the time limit of the scheduler"
    if number in _TRANSIENT_SIGNALS:
        return Kind.TRANSIENT, f"killed by {number.name}"
    if found := _TRANSIENT.search(text):
        return Kind.TRANSIENT, _line_of(text, found)
    if number is not None:
        return Kind.ERROR, f"killed by {number.name}"
    if exit_code == 0:
        return Kind.ERROR, f"ended well, but left no valid {rundir.RESULT}"
    return Kind.ERROR, error or f"ended with exit code {exit_code}, in silence"


def _killed_by(exit_code: int) -> signal.Signals | None:
    number = -exit_code if exit_code < 0 else exit_code - 128
    try:
        return signal.Signals(number)
    except ValueError:
        return None


def _line_of(text: str, found: re.Match[str]) -> str:
    """Return the line of `text` in which the match begins."""
    start = text.rfind("\n", 0, found.start()) + 1
    return text[start:].partition("\n")[0].strip()
