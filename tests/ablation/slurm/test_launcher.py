"""Arrays on a fake scheduler: what is submitted when, and what becomes of each trial."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnlab.ablation import attempts, rundir, supervise
from attnlab.ablation.attempts import Kind
from attnlab.ablation.errors import UserError
from attnlab.ablation.launch import Again, Ended, Events, Job, Started
from attnlab.ablation.slurm import launcher, submission
from attnlab.ablation.slurm.arrays import Arrays
from attnlab.ablation.slurm.launcher import SlurmLauncher
from attnlab.ablation.slurm.queue import SlurmQueue
from attnlab.ablation.slurm.script import Shape
from attnlab.ablation.slurm.settings import SlurmSettings
from tests.ablation.fake_trial import record
from tests.ablation.slurm.faked import Faked


class Bench:
    """A study directory on the fake scheduler, whose trials the test itself finishes."""

    def __init__(self, root: Path) -> None:
        self.slurm = Faked(root / "slurm")
        self.study_dir = root / "my runs/value/laptop"
        self.study_dir.mkdir(parents=True)

    def launcher(self, **settings: object) -> SlurmLauncher:
        made = SlurmSettings(**settings)  # type: ignore[arg-type]
        arrays = Arrays(
            self.study_dir, made, Shape(), command=("python", "-m", "fake_trial"),
            environment={}, code="c0de", task_python="python",
        )  # fmt: skip
        return SlurmLauncher(self.study_dir, arrays, made)

    def jobs(self, count: int) -> list[Job]:
        folders = [self.study_dir / f"cell{index}/seed0" for index in range(count)]
        return [Job(str(each), ("fit", f"--cell={each.parent.name}"), each, 0) for each in folders]

    def trial(self, number: int, index: int) -> Path:
        """Return the run directory of a task."""
        array = submission.read(self.study_dir / ".slurm" / str(number))
        assert array is not None
        return array.tasks[index].run_dir

    def begin(self, number: int, *indices: int) -> None:
        """Let tasks begin their trials."""
        for index in indices:
            job = f"{number}_{index}"
            supervise.begin(self.trial(number, index), launcher="slurm", job=job, code="c0de")
            self.slurm.set(number, index, state="RUNNING")

    def finish(self, number: int, *indices: int) -> None:
        """Let tasks end with a result."""
        for index in indices or range(len(self.slurm.states(number))):
            run_dir = self.trial(number, index)
            rundir.write_json(run_dir / "result.json", record(0.5, 0, {}))
            rundir.write_json(run_dir / "driver.json", {"wall_s": 7.0, "workers": 1})
            self.slurm.set(number, index, state="COMPLETED")

    def fail(self, number: int, index: int, log: str, code: int = 1) -> None:
        """Let a task end with an error that it notes itself."""
        self.begin(number, index)
        run_dir = self.trial(number, index)
        (run_dir / "log.txt").write_text(log)
        attempt = attempts.read_attempt(run_dir)
        assert attempt is not None
        supervise.end(run_dir, attempt, code, 0)
        self.slurm.set(number, index, state="FAILED", code=code)


def settle(events: Events) -> list[Started | Again | Ended]:
    """Return what is said until SLURM has been asked twice more; None is said in between."""
    said, silent = [], 0
    for event in events:
        if event is None:
            silent += 1
            if silent == 3:
                break
        else:
            said.append(event)
    return said


def ended(events: list[Started | Again | Ended]) -> list[str]:
    return sorted(event.job.folder.parent.name for event in events if isinstance(event, Ended))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    for name, value in bench.slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launcher, "POLL_S", (0.0001, 0.0001))
    monkeypatch.setattr(launcher, "TICK_S", 0.001)
    monkeypatch.setattr(launcher, "SETTLE_S", 0.0)
    return bench


def test_one_array_of_all_trials_is_followed_to_its_end(bench: Bench) -> None:
    events = bench.launcher(at_once=2, options={"partition": "gpu"}).run(bench.jobs(3))
    assert settle(events) == []
    (job,) = bench.slurm.jobs.values()
    options = job["options"]
    assert options["array"] == "0-2%2"
    assert options["partition"] == "gpu"
    assert options["job-name"] == "attnlab-value"
    assert options["signal"] == "B:USR1@90"
    assert {"requeue", "parsable"} <= options.keys()
    places = SlurmQueue(bench.study_dir).placements()
    assert [(each.job, each.running, each.reason) for each in places.values()] == [
        (f"1_{index}", False, "Resources") for index in range(3)
    ]
    assert list(places) == [job.folder for job in bench.jobs(3)]
    bench.begin(1, 1)
    assert [type(event) for event in settle(events)] == [Started]
    assert SlurmQueue(bench.study_dir).placements()[bench.jobs(2)[1].folder].node == "n1"
    bench.finish(1, 1)
    (event,) = settle(events)
    assert isinstance(event, Ended)
    assert (event.exit_code, event.wall_s, event.failure) == (0, 7.0, None)
    bench.begin(1, 0, 2)
    bench.finish(1, 0, 2)
    assert ended(settle(events)) == ["cell0", "cell2"]
    assert list(events) == []
    assert len(bench.slurm.jobs) == 1


def test_arrays_are_cut_to_what_the_cluster_allows(bench: Bench) -> None:
    bench.slurm.say("max_array", "4")
    events = bench.launcher().run(bench.jobs(10))
    settle(events)
    assert [len(job["tasks"]) for job in bench.slurm.jobs.values()] == [4, 4, 2]
    for number in (1, 2, 3):
        bench.finish(number)
    assert len(ended(settle(events))) == 10
    cells = [
        str(bench.trial(n, i).parent.name)
        for n, size in ((1, 4), (2, 4), (3, 2))
        for i in range(size)
    ]
    assert cells == [f"cell{index}" for index in range(10)]


@pytest.mark.parametrize("known", [True, False])
def test_the_next_chunk_follows_when_the_user_may_submit_more(bench: Bench, known: bool) -> None:
    bench.slurm.say("limit", "4")
    events = bench.launcher(max_submitted=4 if known else None).run(bench.jobs(9))
    settle(events)
    active = sum(len(job["tasks"]) for job in bench.slurm.jobs.values())
    assert 2 <= active <= 4
    assert known <= (active == 4)
    done: set[str] = set()
    for _ in range(12):
        for number in bench.slurm.jobs:
            if "PENDING" in bench.slurm.states(int(number)):
                bench.finish(int(number))
        done |= set(ended(settle(events)))
    assert done == {f"cell{index}" for index in range(9)}
    assert sum(len(job["tasks"]) for job in bench.slurm.jobs.values()) == 9
    folders = sorted(path.name for path in (bench.study_dir / ".slurm").iterdir())
    assert folders == sorted(bench.slurm.jobs)  # what was refused left nothing


def test_a_limit_that_leaves_no_room_at_all_is_said(bench: Bench) -> None:
    bench.slurm.say("limit", "0")
    with pytest.raises(UserError, match=r"^sbatch refused the job: .*job submit limit"):
        settle(bench.launcher().run(bench.jobs(2)))


def test_trials_at_a_time_are_counted_over_all_arrays(bench: Bench) -> None:
    bench.slurm.say("max_array", "3")
    events = bench.launcher(at_once=2).run(bench.jobs(5))
    settle(events)
    assert [job["throttle"] for job in bench.slurm.jobs.values()] == ["2"]
    bench.finish(1, 0, 1)
    settle(events)
    assert [job["throttle"] for job in bench.slurm.jobs.values()] == ["2", "1"]
    bench.finish(1, 2)
    settle(events)
    assert [job["throttle"] for job in bench.slurm.jobs.values()] == ["2", "2"]


def test_another_driver_adopts_what_is_queued_and_submits_nothing_twice(bench: Bench) -> None:
    first = bench.launcher()
    events = first.run(bench.jobs(3))
    settle(events)
    assert "leaving 3 trials" in first.drain()
    assert "scancel 1" in first.drain()
    assert list(events) == []
    assert bench.slurm.states(1) == ["PENDING"] * 3
    (bench.study_dir / ".slurm/1/job").unlink()  # the driver was killed as sbatch answered
    bench.finish(1, 2)
    bench.begin(1, 1)
    events = bench.launcher().run([*bench.jobs(2), bench.jobs(4)[3]])
    assert [event.job.folder.parent.name for event in settle(events)] == ["cell1"]
    assert [len(job["tasks"]) for job in bench.slurm.jobs.values()] == [3, 1]
    assert bench.trial(2, 0) == bench.jobs(4)[3].folder
    bench.finish(1, 0, 1)
    bench.finish(2)
    assert ended(settle(events)) == ["cell0", "cell1", "cell3"]


def test_only_what_may_pass_is_run_again_and_not_for_ever(bench: Bench) -> None:
    events = bench.launcher().run(bench.jobs(3))
    settle(events)
    bench.fail(1, 0, "ValueError: num_heads=3")
    bench.fail(1, 1, "torch.OutOfMemoryError: CUDA out of memory")
    bench.finish(1, 2)
    said = settle(events)
    assert ended(said) == ["cell0", "cell2"]
    (again,) = (event for event in said if isinstance(event, Again))
    assert "out of memory" in again.reason
    for number in (2, 3):
        assert bench.trial(number, 0).parent.name == "cell1"
        bench.fail(number, 0, "torch.OutOfMemoryError: CUDA out of memory")
        said = settle(events)
    (last,) = (event for event in said if isinstance(event, Ended))
    assert last.failure is not None
    assert last.failure.kind == Kind.MEMORY
    assert len(bench.slurm.jobs) == 3
    assert list(events) == []


@pytest.mark.parametrize(
    ("state", "begun", "kind", "error", "again"),
    [
        ("FAILED", True, Kind.TRANSIENT, "killed by SIGKILL", True),
        ("OUT_OF_MEMORY", True, Kind.MEMORY, "SLURM ended it: OUT_OF_MEMORY", True),
        ("CANCELLED", True, Kind.ERROR, "SLURM ended it: CANCELLED", False),
        ("CANCELLED", False, Kind.ERROR, "job 1_0 was cancelled before it began", False),
        ("FAILED", False, Kind.ERROR, "before the trial began: module: not found", False),
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
        (bench.study_dir / ".slurm/1/0.out").write_text("module: not found\n")
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


def test_a_silent_controller_says_nothing_about_the_trials(bench: Bench) -> None:
    events = bench.launcher().run(bench.jobs(2))
    settle(events)
    bench.slurm.say("busy")
    assert settle(events) == []
    (bench.slurm.folder / "busy").unlink()
    bench.finish(1)
    assert ended(settle(events)) == ["cell0", "cell1"]


def test_a_result_counts_whatever_slurm_calls_the_job(bench: Bench) -> None:
    events = bench.launcher().run(bench.jobs(1))
    settle(events)
    bench.begin(1, 0)
    settle(events)
    bench.finish(1)
    bench.slurm.set(1, state="RUNNING")  # its task is not quite over
    assert ended(settle(events)) == ["cell0"]


def test_a_removed_submission_is_unknown(bench: Bench) -> None:
    settle(bench.launcher().run(bench.jobs(1)))
    shutil.rmtree(bench.study_dir / ".slurm")
    assert SlurmQueue(bench.study_dir).placements() == {}


def test_detached_trials_are_submitted_as_far_as_there_is_room(bench: Bench) -> None:
    made = bench.launcher(max_submitted=3)
    assert made.detach(bench.jobs(5)) == 2
    assert made.jobs == ["1"]
    manifest = json.loads((bench.study_dir / ".slurm/1/manifest.json").read_text())
    assert manifest["tasks"][2]["arguments"] == [
        "fit", "--cell=cell2", "--trainer.devices=1", "--trainer.num_nodes=1"
    ]  # fmt: skip
