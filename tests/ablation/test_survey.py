"""What every trial is doing, told from its run directory, and how a person is shown it."""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from attnlab.ablation import attempts, overview, rundir, survey
from attnlab.ablation import plan as planning
from attnlab.ablation.attempts import Attempt, Failure, Kind
from attnlab.ablation.cells import Trial
from attnlab.ablation.plan import Plan
from attnlab.ablation.states import Placement, State
from tests.ablation.simulated import simulate, write_run

HOST = os.uname().nodename


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A study of four cells and two seeds, nothing of which has run."""
    return simulate(tmp_path, (2, 2), 2, keep=lambda _: False)


def attempt(trial: Trial, node: str = HOST, launcher: Any = "local", number: int = 1) -> None:
    trial.run_dir.mkdir(parents=True, exist_ok=True)
    started = "2026-01-02T03:04:05+00:00"
    attempts.write_attempt(
        trial.run_dir, Attempt(number, launcher, "17_3", node, "c0de", started, False)
    )


def fail(trial: Trial, number: int = 1) -> None:
    failure = Failure(Kind.MEMORY, "CUDA out of memory", 1, number, "2026-01-02T03:04:05+00:00")
    attempts.write_failure(trial.run_dir, failure)


def progress(trial: Trial, **fields: Any) -> None:
    known = {"step": 200, "max_steps": 800, "epoch": 2, "max_epochs": 8}
    (trial.run_dir / "progress.json").write_text(json.dumps(known | fields))


class Scheduler:
    """Says what it is told to."""

    def __init__(self, **placed: Any) -> None:
        self.placed = placed

    def placements(self) -> dict[Path, Placement]:
        return self.placed["placed"]


def states(plan: Plan, placed: dict[Path, Placement] | None = None) -> list[str]:
    return [str(each.state) for each in survey.survey(plan, [Scheduler(placed=placed or {})])]


def test_a_held_lock_runs_and_the_probe_leaves_it_alone(plan: Plan) -> None:
    done, running, failed, interrupted, *_ = plan.trials
    write_run(done)
    for trial in (running, failed, interrupted):
        attempt(trial)
    fail(failed)
    (interrupted.run_dir / rundir.LOCK).touch()  # nobody holds it any more
    with rundir.locked(running.run_dir / rundir.LOCK, "in use"):
        assert states(plan) == ["done", "running", "failed", *["missing"] * 5]
    assert states(plan)[1] == "missing"


def test_locks_are_looked_up_where_the_system_lists_none(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "_LOCKS", Path("/nowhere"))
    first, second, *_ = plan.trials
    for trial in (first, second):
        attempt(trial)
        (trial.run_dir / rundir.LOCK).touch()
    with rundir.locked(first.run_dir / rundir.LOCK, "in use"):
        assert states(plan)[:2] == ["running", "missing"]
    with (second.run_dir / rundir.LOCK).open() as file:  # the survey has let go of it
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_result_of_another_seed_or_a_torn_one_is_not_done(plan: Plan) -> None:
    write_run(plan.trials[0], changes={"seed": 99})
    write_run(plan.trials[1])
    path = plan.trials[1].run_dir / "result.json"
    path.write_text(path.read_text()[:-20])
    assert set(states(plan)) == {"missing"}


def test_a_scheduler_knows_more_than_the_locks_of_this_machine(plan: Plan) -> None:
    running, waiting, done, requeued, *_ = plan.trials
    attempt(running, node="n1", launcher="slurm")
    write_run(done)
    attempt(requeued, node="n1", launcher="slurm")
    fail(requeued)
    found = survey.survey(
        plan,
        [
            Scheduler(
                placed={
                    running.run_dir: Placement("17_0", running=True, node="n1"),
                    waiting.run_dir: Placement("17_1", running=False, reason="Resources"),
                    done.run_dir: Placement("17_2", running=True, node="n1"),
                    requeued.run_dir: Placement("17_3", running=False, reason="BeginTime"),
                }
            )
        ],
    )
    kinds = [each.state for each in found]
    assert kinds == [State.RUNNING, State.QUEUED, State.DONE, State.QUEUED, *[State.MISSING] * 4]
    seen = overview.of(plan, found)
    assert seen.describe(found[1]) == "queued (17_1), Resources"
    assert seen.describe(found[0]) == "running on n1 (17_0), starting"


def test_on_another_machine_without_a_scheduler_news_decide(plan: Plan) -> None:
    fresh, stale, *_ = plan.trials
    for trial in (fresh, stale):
        attempt(trial, node="elsewhere")
        progress(trial)
    for path in stale.run_dir.iterdir():
        os.utime(path, (time.time() - 3600,) * 2)
    assert states(plan)[:2] == ["running", "missing"]
    attempt(stale, node=HOST)  # here a lock would be seen
    assert states(plan)[:2] == ["running", "missing"]


def test_what_a_driver_has_not_come_to_is_queued(plan: Plan) -> None:
    attempt(plan.trials[0])
    fail(plan.trials[0])
    with rundir.locked(plan.directory / rundir.LOCK, "driven"):
        found = survey.survey(plan)
    assert [str(each.state) for each in found] == ["failed", *["queued"] * 7]
    assert found[1].placement is not None
    assert found[1].placement.reason == f"waits for process {os.getpid()} on {HOST}"


def test_the_newest_metrics_are_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert survey.newest_metrics(path) is None
    lines = [{"step": k, "epoch": 0, "val/top1": k / 10, "val/loss": None} for k in range(3)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text("x" * 100_000 + "\n" + text + '{"val/top1": 0.9')
    assert survey.newest_metrics(path) == {"val/top1": 0.2}
    path.write_text('{"val/top1": 0.9')
    assert survey.newest_metrics(path) is None


def test_a_person_sees_cells_trials_and_how_long_it_takes(plan: Plan) -> None:
    done, running, failed, broken, *rest = plan.trials
    assert rest[0].cell == done.cell
    write_run(done)
    metrics = {"test/top1": None, "test/loss": 1.0}
    write_run(broken, changes={"metrics": metrics})
    for trial in (running, failed):
        attempt(trial, number=2)
    progress(running, elapsed_s=60.0)
    (running.run_dir / "metrics.jsonl").write_text('{"val/top1": 0.5, "train/loss": 2.0}\n')
    fail(failed, number=2)
    with rundir.locked(running.run_dir / rundir.LOCK, "in use"):
        seen = overview.of(plan, survey.survey(plan))
    rows, left_out = seen.cell_rows(every=False)
    value = json.loads((done.run_dir / "result.json").read_text())["metrics"]["test/top1"]
    assert rows[0] == ("depth=1,width=1", "1/2", f"{value:.4g}", "1 missing")
    assert rows[1] == ("depth=1,width=2", "0/2", "", "1 running, 1 missing")
    assert (len(rows), left_out) == (4, "")
    # A quarter took a minute: three more are left.
    assert list(seen.trial_lines(every=False)) == [
        f"depth=1,width=2 seed 0: running on {HOST}, step 200/800, epoch 2/8, 25 %, "
        "about 3 min 0 s left, val/top1 0.5 train/loss 2",
        "depth=2,width=1 seed 0: failed, out of memory, 2 attempts: CUDA out of memory "
        f"(log: {failed.run_dir}/log.txt)",
    ]
    assert seen.summary == (
        "8 trials: 2 done, 1 running, 1 failed, 4 missing; 25 % done; "
        "1 of them failed: their metric is not finite; about 3 min 0 s left"
    )
    assert seen.describe(seen.states[3]) == "done, test/top1 is not finite"
    record = json.loads(json.dumps(seen.record()))
    assert record["counts"] == {"done": 2, "running": 1, "queued": 0, "failed": 1, "missing": 4}
    assert record["trials"][1]["attempt"]["number"] == 2
    assert [each["value"] for each in record["trials"]] == [value, *[None] * 7]


def test_what_waits_is_shared_out_among_what_runs(plan: Plan) -> None:
    runs = plan.trials[:2]
    for trial in runs:
        attempt(trial)
        progress(trial, step=400, elapsed_s=30.0)
    placed = {trial.run_dir: Placement("1", running=True) for trial in runs}
    placed |= {trial.run_dir: Placement("2", running=False) for trial in plan.trials[2:5]}
    seen = overview.of(plan, survey.survey(plan, [Scheduler(placed=placed)]))
    # Two at a time: half a minute each, and then three that take 0.5 min by the profile's guess.
    assert seen.minutes_left() == pytest.approx(0.5 + 0.5 + 0.5)


def test_of_many_cells_only_those_under_way_are_shown(tmp_path: Path) -> None:
    plan = simulate(tmp_path, (10, 10), 2, keep=lambda t: t.cell.labels["depth"] < 4 or t.seed == 0)
    seen = overview.of(plan, survey.survey(plan))
    rows, left_out = seen.cell_rows(every=False)
    assert len(rows) == overview.MANY_CELLS
    assert rows[0][:2] == ("depth=4,width=1", "1/2")
    assert left_out == "60 more cells: 30 are complete, 0 have not begun"
    assert len(seen.cell_rows(every=True)[0]) == 100


def test_planning_checks_every_key_once(tmp_path: Path) -> None:
    simulate(tmp_path, (2, 2), 1, keep=lambda _: False)
    start = time.process_time()
    plan = simulate(tmp_path / "wide", (25, 20, 20), 1, keep=lambda _: False)
    assert len(plan.trials) == 10_000
    assert time.process_time() - start < 5
    planning.check_directory(plan)
