"""What the rest of a study takes, from what has finished or from short runs."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnlab.ablation import predict, probe
from attnlab.ablation.attempts import Failure, Kind
from attnlab.ablation.errors import UserError
from attnlab.ablation.launch import Ended, Events, Job
from attnlab.ablation.plan import Plan
from attnlab.ablation.predict import Basis, Estimate
from attnlab.ablation.schema import Budget
from tests.ablation.conftest import Lab
from tests.ablation.simulated import record, simulate

STEP_S, VALIDATION_S, REST_S = 0.05, 2.0, 7.0


def study(tmp_path: Path, finished: dict[tuple[int, int], float], sizes: Any = (3,)) -> Plan:
    """A study of cells ``depth=1..`` whose finished trials, by depth and seed, took so many s."""
    plan = simulate(tmp_path, sizes, 2, keep=lambda t: (t.cell.labels["depth"], t.seed) in finished)
    for trial in plan.trials:
        if seconds := finished.get((int(trial.cell.labels["depth"]), trial.seed)):
            note = {"wall_s": seconds, "workers": 1}
            (trial.run_dir / "driver.json").write_text(json.dumps(note))
    return plan


def test_a_cell_takes_what_it_took_and_another_one_the_mean(tmp_path: Path) -> None:
    plan = study(tmp_path, {(1, 0): 60.0, (2, 0): 90.0, (2, 1): 150.0})
    results = plan.results()
    rests = predict.basis(plan, results)
    minutes = [rests.of(cell.key).minutes for cell in plan.cells]
    assert minutes == pytest.approx([1.0, 2.0, 100 / 60])
    # Seeds of the one cell that has two: 1.5 and 2.5 of 2.0, which is 0.25 / 1 on either side.
    within = statistics.stdev([0.75, 1.25])
    assert rests.of(plan.cells[0].key).error == pytest.approx(within)
    assert rests.of(plan.cells[2].key).error == pytest.approx(statistics.stdev([1.0, 1.5, 2.5]))
    plan = replace(plan, profile=replace(plan.profile, gpus_per_cell=4, nodes_per_cell=2))
    found = predict.predict(plan, results, 2, rests)
    # To run: the first cell once, and the third twice.
    assert found.trials == 3
    assert found.serial == pytest.approx(1 + 2 * 100 / 60)
    assert found.wall == pytest.approx(1 + 100 / 60)
    assert found.gpu_hours == pytest.approx(8 * found.serial / 60)
    error = within + 2 * statistics.stdev([1.0, 1.5, 2.5])
    assert found.error == pytest.approx(error / found.serial)
    assert str(found).startswith("to run: 3 trials, 4.3 min one by one, 2.7 min with 2 at a time")


def test_without_a_repetition_the_error_is_unknown(tmp_path: Path) -> None:
    plan = study(tmp_path, {(1, 0): 60.0})
    rests = predict.basis(plan, plan.results())
    assert [rests.of(cell.key) for cell in plan.cells] == [Estimate(1.0, None)] * 3
    assert "(error unknown; from 1 finished trial)" in str(
        predict.predict(plan, plan.results(), 1, rests)
    )
    nothing = study(tmp_path / "new", {})
    assert predict.basis(nothing, []) == Basis("profile laptop", {}, Estimate(0.5, None))


def test_a_run_notes_what_it_is_expected_to_take(tmp_path: Path) -> None:
    plan = study(tmp_path, {(1, 0): 60.0, (1, 1): 60.0})
    predict.note(plan, plan.results(), plan.trials[1:3], 2)
    noted = json.loads((plan.directory / predict.PREDICTION).read_text())
    assert noted.pop("made").endswith("+00:00")
    estimate = {"minutes": 1.0, "error": 0.0}
    assert noted == {
        "source": "2 finished trials",
        "cells": {cell.key: estimate for cell in plan.cells[1:]},
        "wall_minutes": 1.0,
        "gpu_hours": 0.0,
        "workers": 2,
    }
    (plan.directory / predict.PREDICTION).unlink()
    done = study(tmp_path / "done", {(d, s): 1.0 for d in (1, 2, 3) for s in (0, 1)})
    predict.note(done, done.results(), [], 2)
    assert not (done.directory / predict.PREDICTION).exists()


class Machine:
    """Runs short runs in no time and says that they took as long as they would have."""

    def __init__(self, plan: Plan, slow: float = 1.0, steps: int = 1000) -> None:
        self.plan = plan
        self.slow = slow
        self.steps = steps
        self.jobs: list[Job] = []

    def run(self, jobs: Iterable[Job]) -> Events:
        for job in jobs:
            self.jobs.append(job)
            yield Ended(job, 0, self._leave(job))

    def drain(self) -> str:
        return ""

    def stop(self) -> str:
        return ""

    def _leave(self, job: Job) -> float:
        """Leave what a run leaves that trains until its time is up, and return its seconds."""
        limit_s = float(job.arguments[-1].rpartition(":")[2])
        depth = next(int(f.partition("=")[2]) for f in job.arguments if f.startswith("--model.dep"))
        first = len(self.jobs) <= 2  # the repetition is slower
        step_s = STEP_S * depth * (1.0 if first else self.slow)
        warm_up_s = 1.0
        steps = min(int((limit_s - warm_up_s) / step_s), self.steps)
        fit_s = warm_up_s + steps * step_s + VALIDATION_S
        job.folder.mkdir(parents=True)
        trial = next(t for t in self.plan.trials if t.seed == job.seed)
        content = record(trial) | {"steps": steps}
        content["timing"]["validate_s"] = VALIDATION_S
        (job.folder / "result.json").write_text(json.dumps(content))
        (job.folder / "metrics.jsonl").write_text('{"step": 1}\n')
        progress = {"max_steps": self.steps, "validations": 5, "elapsed_s": fit_s}
        (job.folder / "progress.json").write_text(json.dumps(progress))
        return REST_S + fit_s


def whole(depth: int, steps: int = 1000) -> float:
    """Return the minutes that a trial takes on that machine."""
    return (REST_S + 1.0 + steps * STEP_S * depth + 5 * VALIDATION_S) / 60


def test_two_short_runs_give_the_whole_trial(tmp_path: Path) -> None:
    plan = study(tmp_path, {})
    machine = Machine(plan)
    found = probe.measure(plan, machine)
    assert [found.of(cell.key).minutes for cell in plan.cells] == pytest.approx(
        [whole(1), whole(2), whole(3)]
    )
    assert [found.of(cell.key).error for cell in plan.cells] == pytest.approx([0.0] * 3)
    # Two runs of each cell, and two more of the first, all elsewhere.
    assert len(machine.jobs) == 8
    assert not any(job.folder.exists() for job in machine.jobs)
    assert not any(str(plan.directory) in str(job.folder) for job in machine.jobs)
    limits = [job.arguments[-1] for job in machine.jobs[:2]]
    assert limits == ["--trainer.max_time=00:00:00:04", "--trainer.max_time=00:00:00:12"]


def test_the_error_is_how_far_two_probes_differ(tmp_path: Path) -> None:
    plan = study(tmp_path, {})
    found = probe.measure(plan, Machine(plan, slow=2.0))
    pair = [whole(1), whole(2)]
    share = statistics.stdev(pair) / statistics.fmean(pair)
    first = found.of(plan.cells[0].key)
    assert first == pytest.approx(Estimate(statistics.fmean(pair), statistics.stdev(pair)))
    second = found.of(plan.cells[1].key)
    assert second.error == pytest.approx(second.minutes * share)


def test_a_run_that_is_over_before_its_time_was_a_whole_one(tmp_path: Path) -> None:
    plan = study(tmp_path, {})
    found = probe.measure(plan, Machine(plan, steps=10))
    expected = (REST_S + 1 + 10 * STEP_S + VALIDATION_S) / 60
    assert found.of(plan.cells[0].key).minutes == pytest.approx(expected)


def test_a_budget_of_minutes_ends_the_training(tmp_path: Path) -> None:
    plan = study(tmp_path, {})
    profile = replace(plan.profile, budget=Budget("minutes", 0.75))
    found = probe.measure(replace(plan, profile=profile), Machine(plan))
    minutes = [found.of(cell.key).minutes for cell in plan.cells]
    assert minutes == pytest.approx([0.75 + (REST_S + 1) / 60] * 3)


def test_of_many_cells_a_sample_is_probed(tmp_path: Path) -> None:
    plan = study(tmp_path, {}, sizes=(3, 20))
    machine = Machine(plan)
    found = probe.measure(plan, machine)
    assert len(found.cells) == probe.CELLS
    assert {plan.cells[0].key, plan.cells[-1].key} <= set(found.cells)
    assert found.source.startswith("short runs of 12 of 60 cells; ")
    assert found.others.minutes == pytest.approx(
        statistics.fmean(each.minutes for each in found.cells.values())
    )
    spread = statistics.stdev(each.minutes for each in found.cells.values())
    assert found.others.error == pytest.approx(spread)


def test_what_a_probe_found_is_kept_for_the_run(tmp_path: Path) -> None:
    plan = study(tmp_path, {})
    found = probe.measure(plan, Machine(plan))
    predict.write_probe(plan, found)
    kept = predict.basis(plan, [])
    assert (kept.cells, kept.others) == (found.cells, found.others)
    assert kept.source.startswith(found.source)
    (plan.directory / predict.PROBED).write_text('{"cells": {"a": 3}}')
    assert predict.basis(plan, []).source == "profile laptop"


def test_a_probe_that_fails_says_why(tmp_path: Path) -> None:
    plan = study(tmp_path, {})

    class Broken(Machine):
        def run(self, jobs: Iterable[Job]) -> Events:
            for job in jobs:
                failure = Failure(Kind.ERROR, "RuntimeError: no such data", 1, 1, "now")
                yield Ended(job, 1, 1.0, failure)

    with pytest.raises(UserError) as caught:
        probe.measure(plan, Broken(plan))
    assert str(caught.value) == "the probe of cell depth=1 failed: RuntimeError: no such data"


def test_of_many_trials_the_first_are_listed(lab: Lab) -> None:
    lab.study["seeds"] = list(range(60))
    code, out, _ = lab.call("--dry-run")
    assert (code, out.count("(to run)")) == (0, 10)
    assert "and 110 more trials; --all lists them" in out
    assert lab.call("--dry-run", "--all")[1].count("(to run)") == 120
    for option in ("--all", "--probe"):
        assert lab.call(option) == (2, "", f"run_ablation: error: {option} needs --dry-run\n")
    probing = ("--probe", "--dry-run", "--launcher", "slurm")
    assert lab.call(*probing)[2].startswith("run_ablation: error: --probe measures the machine")
