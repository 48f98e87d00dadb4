"""What the end of a process and of its log say about running it again."""

from pathlib import Path

import pytest

from attnlab.ablation import failures
from attnlab.ablation.attempts import Kind

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
RESET = "torch.distributed.DistNetworkError: Connection reset by peer"


@pytest.mark.parametrize(
    ("exit_code", "log", "kind", "line"),
    [
        (1, f"Traceback\n{OOM}\n", Kind.MEMORY, OOM),
        (1, f"rank 1: {OOM}\n{RESET}\n", Kind.MEMORY, f"rank 1: {OOM}"),  # the cause, not the echo
        (1, "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", Kind.MEMORY,
         "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory"),
        (-9, f"step 3\n{failures.KERNEL_KILLED}\n", Kind.MEMORY, failures.KERNEL_KILLED),
        (137, "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0", Kind.MEMORY,
         "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0"),
        (-9, "step 3\n", Kind.TRANSIENT, "killed by SIGKILL"),
        (137, "step 3\n", Kind.TRANSIENT, "killed by SIGKILL"),
        (-7, "", Kind.TRANSIENT, "killed by SIGBUS"),
        (-15, "", Kind.TRANSIENT, "killed by SIGTERM"),
        (1, f"{RESET}\n", Kind.TRANSIENT, RESET),
        (1, "torch.distributed.DistBackendError: NCCL error in: x.cpp:1, ncclSystemError: y",
         Kind.TRANSIENT,
         "torch.distributed.DistBackendError: NCCL error in: x.cpp:1, ncclSystemError: y"),
        (1, "OSError: [Errno 116] Stale file handle: 'x'", Kind.TRANSIENT,
         "OSError: [Errno 116] Stale file handle: 'x'"),
        (2, "attnlab: error: checkpoint 'x' could not be saved (No space left on device)",
         Kind.TRANSIENT,
         "attnlab: error: checkpoint 'x' could not be saved (No space left on device)"),
        (1, "RuntimeError: DataLoader worker (pid 3) is killed by signal: Bus error.",
         Kind.TRANSIENT, "RuntimeError: DataLoader worker (pid 3) is killed by signal: Bus error."),
        (143, "slurmstepd: error: *** STEP 7.0 CANCELLED AT x DUE TO TIME LIMIT ***", Kind.TIME,
         "it ran into the time limit of the scheduler"),
        (-24, "", Kind.TIME, "it ran into the time limit of the scheduler"),
        (1, "Traceback\nRuntimeError: shapes (3,) and (4,) differ\n", Kind.ERROR,
         "RuntimeError: shapes (3,) and (4,) differ"),
        (-11, "step 3\n", Kind.ERROR, "killed by SIGSEGV"),
        (0, "step 3\n", Kind.ERROR, "ended well, but left no valid result.json"),
        (3, "", Kind.ERROR, "ended with exit code 3, in silence"),
    ],
)  # fmt: skip
def test_a_failure_is_known_by_exit_code_and_log(
    tmp_path: Path, exit_code: int, log: str, kind: Kind, line: str
) -> None:
    (tmp_path / "log.txt").write_text(f"$ python -m attnlab fit --x MemoryError\n{log}")
    assert failures.classify(exit_code, tmp_path / "log.txt") == (kind, line)


def test_without_a_log_the_exit_code_speaks(tmp_path: Path) -> None:
    found = failures.classify(1, tmp_path / "none.txt")
    assert found == (Kind.ERROR, "ended with exit code 1, in silence")
