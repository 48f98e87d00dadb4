"""SLURM's own commands, with a limit on their time and one line for whatever they refuse."""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.ablation.errors import UserError, unknown

TIMEOUT_S = 60.0
_LIMIT = re.compile(r"submit ?(job)? ?limit|MaxSubmitJob|violates accounting/QOS policy", re.I)
_FIELDS = "%F|%K|%T|%N|%r|%o"
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")


class LimitError(UserError):
    """SLURM takes no more jobs of this user at the moment."""


@dataclass(frozen=True)
class Entry:
    """One task of an array in the queue.

    Attributes:
        job: Identity of the array.
        index: Of the task.
        state: In SLURM's words, such as ``PENDING`` or ``RUNNING``.
        node: Where it runs; empty while it waits.
        reason: Why it waits.
        script: The batch script, as it was given to sbatch.
    """

    job: str
    index: int
    state: str
    node: str
    reason: str
    script: str

    @property
    def name(self) -> str:
        """What SLURM calls the task."""
        return f"{self.job}_{self.index}"

    @property
    def waits(self) -> bool:
        """Whether it has not begun to run, or is to run again."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def submit(script: Path, options: Sequence[str]) -> str:
    """Submit a batch script and return the job's identity.

    Raises:
        LimitError: The user has as many jobs as are allowed.
        UserError: SLURM refuses it for another reason, which is named.
    """
    done = _call("sbatch", "--parsable", *options, str(script))
    if done.returncode == 0:
        return done.stdout.split(";")[0].strip()
    reason = _reason(done.stderr)
    if _LIMIT.search(done.stderr):
        raise LimitError(f"sbatch refused the job: {reason}")
    if "invalid partition" in done.stderr.lower():
        named = [option.partition("=")[2] for option in options if option.startswith("--partition")]
        raise UserError(unknown("partition", (named or [""])[-1], partitions()))
    raise UserError(f"sbatch refused the job: {reason}")


def queue(name: str) -> list[Entry]:
    """Return the tasks of all arrays that are called `name` and wait or run.

    Raises:
        UserError: SLURM does not answer.
    """
    output = _output("squeue", "--noheader", "--array", f"--name={name}", f"--format={_FIELDS}")
    entries = []
    for line in output.splitlines():
        fields = line.split("|", 5)
        if len(fields) == 6 and fields[1].isdecimal():
            entries.append(Entry(fields[0], int(fields[1]), *fields[2:]))
    return entries


def state(job: str) -> str:
    """Return the state of one job, such as ``RUNNING``; empty where SLURM knows none."""
    done = _call("squeue", "--noheader", f"--jobs={job}", "--format=%T")
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


def fate(job: str) -> tuple[str, int]:
    """Return the state of a job or task that ended, such as ``CANCELLED``, and its exit code.

    The state is empty once SLURM has forgotten it.

    Raises:
        UserError: SLURM does not answer.
    """
    done = _call("scontrol", "--oneliner", "show", "job", job)
    if done.returncode and "Invalid job id" not in done.stderr:
        raise UserError(f"scontrol: {_reason(done.stderr)}")
    found = re.search(r"\bJobState=(\w+).*\bExitCode=(\d+)", done.stdout)
    return (found[1], int(found[2])) if found else ("", 0)


def check(partition: str) -> None:
    """See to it that SLURM answers, and has the partition, or all of several joined by commas.

    Raises:
        UserError: It does not.
    """
    known = partitions()
    for name in filter(None, partition.split(",")):
        if name not in known:
            raise UserError(unknown("partition", name, known))


def max_array() -> int:
    """Return how many tasks an array may have, when numbered from 0."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _output("scontrol", "show", "config"), re.M)
    return max(1, int(found[1])) if found else 1000


def partitions() -> list[str]:
    """Return the names of all partitions."""
    return sorted(set(_output("sinfo", "--all", "--noheader", "--format=%R").split()))


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs, or tasks such as ``17_3``; those that have ended meanwhile are none."""
    for first in range(0, len(jobs), 200):  # a command line has a length
        done = _call("scancel", *jobs[first : first + 200])
        if done.returncode and "Invalid job id" not in done.stderr:
            raise UserError(f"scancel: {_reason(done.stderr)}")


def throttle(job: str, count: int) -> None:
    """Let `count` tasks of an array run at a time; an array that has ended needs none."""
    _call("scontrol", "update", f"JobId={job}", f"ArrayTaskThrottle={count}")


def requeue(job: str) -> None:
    """Let a running job end and wait for its next turn.

    Raises:
        UserError: SLURM refuses.
    """
    _output("scontrol", "requeue", job)


def _output(*command: str) -> str:
    done = _call(*command)
    if done.returncode:
        raise UserError(f"{command[0]}: {_reason(done.stderr)}")
    return done.stdout


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    # A driver may itself be a job: what describes that one is not for those it submits.
    environment = {
        key: value
        for key, value in os.environ.items()
        if key in _KEPT or not key.startswith(("SLURM_", "SRUN_"))
    }
    try:
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the driver: an sbatch must not end half-way
        )
    except FileNotFoundError:
        raise UserError(
            f"there is no SLURM on this machine ({command[0]} is not found); "
            "use --launcher local, or a machine that can submit jobs"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: no answer within {TIMEOUT_S:.0f} s") from None


def _reason(text: str) -> str:
    """Return what a command complains of, in one line."""
    lines = [re.sub(r"^\w+: (error|fatal): ", "", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    return lines[-1] if lines else "it gives no reason"
