"""Measuring what a trial takes from two short runs of it, which differ in their length only.

A trial of `n` steps and `v` validations takes ``a + b n + c v``. The runs are those of the study,
but for a limit on the time they train; what they say of their steps and validations gives `b` and
`c`, and what remains of the time of the longer one is `a`: start, set-up, test and last words.
"""

import contextlib
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.ablation import rundir
from attnlab.ablation.cells import Cell, Trial
from attnlab.ablation.errors import UserError
from attnlab.ablation.launch import Ended, Job, Launcher
from attnlab.ablation.plan import Plan
from attnlab.ablation.predict import Basis, Estimate

SECONDS = (4, 12)
"""How long the two runs of a cell train."""
CELLS = 12
"""Cells that are probed at most; of a larger study as many, evenly spaced over the grid."""
REPEATED = 2
"""How often each run of the first cell is made, to see how far its measurements differ."""


@dataclass(frozen=True)
class Run:
    """What a short run says.

    Attributes:
        wall_s: Seconds of its process.
        fit_s: Seconds of its fit, validations included.
        validate_s: Seconds of its validations.
        validations: Number of these.
        steps: Steps it made.
        all_steps: Steps of the whole trial.
        all_validations: Validations of the whole trial.
    """

    wall_s: float
    fit_s: float
    validate_s: float
    validations: int
    steps: int
    all_steps: int
    all_validations: int

    @property
    def training_s(self) -> float:
        """Seconds of its steps."""
        return self.fit_s - self.validate_s


def measure(plan: Plan, launcher: Launcher) -> Basis:
    """Run short runs of the cells of `plan` and return what its trials will take.

    Args:
        plan: The study; each cell is run with its first seed, in a temporary directory.
        launcher: What runs them.

    Raises:
        UserError: One of them failed.
    """
    chosen = _sample(plan.cells)
    first = {trial.cell.key: trial for trial in reversed(plan.trials)}
    with tempfile.TemporaryDirectory(prefix="attnlab-probe-") as folder:
        jobs: dict[str, tuple[str, int, int]] = {}
        todo = []
        for number, cell in enumerate(chosen):
            for turn in range(REPEATED if number == 0 else 1):
                for seconds in SECONDS:
                    trial = first[cell.key]
                    run_dir = Path(folder) / f"{cell.key}-{turn}-{seconds}"
                    jobs[str(run_dir)] = cell.key, turn, seconds
                    todo.append(_job(plan, trial, run_dir, seconds))
        runs: dict[tuple[str, int, int], Run] = {}
        with contextlib.closing(launcher.run(todo)) as events:
            for event in events:
                if isinstance(event, Ended):
                    key = jobs[event.job.name]
                    runs[key] = _read(first[key[0]], event)
    limit_s = _limit_s(plan)
    minutes = {
        (cell.key, turn): _minutes([runs[cell.key, turn, each] for each in SECONDS], limit_s)
        for number, cell in enumerate(chosen)
        for turn in range(REPEATED if number == 0 else 1)
    }
    return _basis(plan, chosen, minutes)


def _basis(plan: Plan, chosen: Sequence[Cell], minutes: Mapping[tuple[str, int], float]) -> Basis:
    """Return what probes of the cells `chosen` say of all cells."""
    repeated = [minutes[chosen[0].key, turn] for turn in range(REPEATED)]
    found = {
        cell.key: statistics.fmean(minutes[cell.key, turn] for turn in turns)
        for cell, turns in zip(chosen, [range(REPEATED)] + [range(1)] * len(chosen), strict=False)
    }
    noise = statistics.stdev(repeated) / statistics.fmean(repeated)
    mean = statistics.fmean(found.values())
    # The error of a cell nobody looked at: how much those differ that somebody did.
    spread = statistics.stdev(found.values()) / mean if len(found) > 1 else 0.0
    number = f"{len(chosen)} of {len(plan.cells)} cells"
    return Basis(
        source=f"short runs of {number}; the error leaves out other load, waiting and retries",
        cells={key: Estimate(value, value * noise) for key, value in found.items()},
        others=Estimate(mean, mean * math.hypot(noise, spread)),
    )


def _sample(cells: Sequence[Cell]) -> list[Cell]:
    """Return all cells, or `CELLS` of them, evenly spaced, the first and the last among them."""
    if len(cells) <= CELLS:
        return list(cells)
    return [cells[round(k * (len(cells) - 1) / (CELLS - 1))] for k in range(CELLS)]


def _job(plan: Plan, trial: Trial, run_dir: Path, seconds: int) -> Job:
    short = Trial(trial.cell, trial.seed, run_dir)
    limit = f"--trainer.max_time=00:00:00:{seconds:02}"
    return Job(str(run_dir), (*plan.arguments(short), limit), run_dir, trial.seed)


def _read(trial: Trial, event: Ended) -> Run:
    """Return what the run of `trial` says that has just ended.

    Raises:
        UserError: It failed.
    """
    run_dir = event.job.folder
    result = rundir.read_result(Trial(trial.cell, trial.seed, run_dir))
    progress = rundir.read_json(run_dir / "progress.json")
    if result is None:
        reason = event.failure.error if event.failure else rundir.last_error(event.job.log)
        raise UserError(f"the probe of cell {trial.cell.name} failed: {reason}")
    lines = run_dir / "metrics.jsonl"
    return Run(
        wall_s=event.wall_s,
        fit_s=float(progress.get("elapsed_s", event.wall_s)),
        validate_s=float(result.record["timing"].get("validate_s", 0.0)),
        validations=len(lines.read_bytes().splitlines()) if lines.exists() else 0,
        steps=result.record["steps"],
        all_steps=int(progress.get("max_steps", result.record["steps"])),
        all_validations=int(progress.get("validations", 0)),
    )


def _minutes(pair: Sequence[Run], limit_s: float | None) -> float:
    """Return what the whole trial takes, from a short and a longer run of it.

    Args:
        pair: The runs.
        limit_s: How long the trial trains at most, validations included.
    """
    short, longer = pair
    if short.steps >= short.all_steps:  # both were whole trials
        return statistics.fmean(each.wall_s for each in pair) / 60
    # A first step takes longer than the others, so that the mean is too high. The difference of
    # the runs is right, unless other load made it larger still.
    step_s = longer.training_s / max(1, longer.steps)
    if longer.steps > short.steps and longer.training_s > short.training_s:
        slope_s = (longer.training_s - short.training_s) / (longer.steps - short.steps)
        step_s = min(step_s, slope_s)
    rest_s = longer.wall_s - longer.validate_s - step_s * longer.steps
    count = short.validations + longer.validations
    each_s = (short.validate_s + longer.validate_s) / count if count else 0.0
    training_s = step_s * longer.all_steps + each_s * longer.all_validations
    return (rest_s + (training_s if limit_s is None else min(training_s, limit_s))) / 60


def _limit_s(plan: Plan) -> float | None:
    """Return for how many seconds the trials of `plan` may train, None where there is no limit."""
    budget = plan.profile.budget
    return budget.amount * 60 if budget is not None and budget.unit == "minutes" else None
