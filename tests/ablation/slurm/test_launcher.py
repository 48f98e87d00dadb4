"""Arrays on a fake scheduler: what is submitted when, and who follows it."""

import json
import shutil
from pathlib import Path

import pytest

from attnlab.ablation.attempts import Kind
from attnlab.ablation.errors import UserError
from attnlab.ablation.launch import Again, Ended, Started
from attnlab.ablation.slurm.queue import SlurmQueue
from tests.ablation.slurm.bench import Bench, ended, settle


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


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


def test_sbatch_may_fail_for_a_while_once_trials_run(bench: Bench) -> None:
    bench.slurm.say("max_array", "2")
    events = bench.launcher(at_once=2).run(bench.jobs(3))
    settle(events)
    bench.slurm.say("refusal", "Batch job submission failed: Unable to contact slurm controller")
    bench.finish(1, 0)
    assert ended(settle(events)) == ["cell0"]
    bench.slurm.say("refusal")
    settle(events)
    assert len(bench.slurm.jobs) == 2
    bench.slurm.say("refusal", "Batch job submission failed: Invalid account")
    bench.fail(2, 0, "CUDA out of memory")
    bench.finish(1, 1)
    with pytest.raises(UserError, match="Invalid account"):
        settle(events)


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
