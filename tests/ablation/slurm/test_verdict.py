"""What became of trials that left SLURM's queue without a word."""

from pathlib import Path

import pytest

from attnlab.ablation import attempts
from attnlab.ablation.attempts import Kind
from tests.ablation.slurm.bench import Bench, ended, settle


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("state", "begun", "kind", "error", "again"),
    [
        ("FAILED", True, Kind.TRANSIENT, "killed by SIGKILL", True),
        ("OUT_OF_MEMORY", True, Kind.MEMORY, "SLURM ended it: OUT_OF_MEMORY", True),
        ("CANCELLED", True, Kind.STOPPED, "SLURM ended it: CANCELLED", False),
        ("CANCELLED", False, Kind.STOPPED, "job 1_0 was cancelled before it began", False),
        ("FAILED", False, Kind.ERROR, "before the trial began: module: not found", False),
        ("FAILED", False, Kind.TRANSIENT, "began: OSError: No space left on device", True),
    ],
)
def test_a_job_that_vanished_without_a_word_is_explained(
    bench: Bench, state: str, begun: bool, kind: Kind, error: str, again: bool
) -> None:
    events = bench.launcher().run(bench.jobs(1))
    settle(events)
    if begun:
        bench.begin(1, 0)
    elif state == "FAILED":
        (bench.study_dir / ".slurm/1/0.out").write_text(f"{error.partition(': ')[2]}\n")
    bench.slurm.set(1, state=state, code=75 if state == "CANCELLED" else 1)
    settle(events)
    failure = attempts.read_failure(bench.jobs(1)[0].folder)
    assert failure is not None
    assert failure.kind == kind
    assert error in failure.error
    assert len(bench.slurm.jobs) == 1 + again


@pytest.mark.parametrize(("state", "code"), [("NODE_FAIL", 0), ("FAILED", 75)])
def test_a_stopped_trial_that_slurm_forgot_goes_on(bench: Bench, state: str, code: int) -> None:
    events = bench.launcher().run(bench.jobs(1))
    settle(events)
    for number in range(1, 5):  # more often than a failure would be
        bench.begin(number, 0)
        bench.slurm.set(number, state=state, code=code)
        settle(events)
    assert len(bench.slurm.jobs) == 5
    bench.finish(5)
    assert ended(settle(events)) == ["cell0"]
