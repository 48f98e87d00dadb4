"""Finished studies of any size, made up and written in seconds, to see how the driver scales.

`python -m tests.ablation.simulated DIR --sizes 10 20 10 --seeds 5` leaves `DIR/ablations.yaml` with
the study `simulated`, and its run directories; the commands of the driver work on it in `DIR`.
"""

import argparse
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from attnlab.ablation import parse
from attnlab.ablation import plan as planning
from attnlab.ablation.cells import Trial
from attnlab.ablation.plan import Plan

AXES = ("depth", "width", "heads", "rate")
METRICS = 12
"""Metrics per run beside those below, as real runs log more than a report shows."""


def simulate(
    root: Path,
    sizes: Sequence[int] = (4, 3),
    seeds: int = 3,
    *,
    lines: int = 0,
    keep: Callable[[Trial], bool] = lambda _: True,
    changes: Callable[[Trial], dict[str, Any]] = lambda _: {},
) -> Plan:
    """Write a study of ``prod(sizes)`` cells and its finished runs below `root`.

    Args:
        root: Directory for `ablations.yaml`, the base experiment and `runs/ablations`.
        sizes: Number of values of each axis, of at most four.
        seeds: Runs per cell.
        lines: Lines of each `metrics.jsonl`; 0 writes none.
        keep: Which trials have finished; the others leave nothing.
        changes: Entries to replace in the result of a trial.

    Returns:
        The plan that the driver makes of it.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "base.yaml").write_text("model: {depth: 0, width: 0, heads: 0, rate: 0}\n")
    (root / "ablations.yaml").write_text(yaml.safe_dump(_stanzas(sizes, seeds), sort_keys=False))
    ablations = parse.load(root / "ablations.yaml")
    study, profile = ablations.studies["simulated"], ablations.profiles["laptop"]
    plan = planning.make(study, profile, root / "runs/ablations")
    planning.claim_directory(plan)
    for trial in plan.trials:
        if keep(trial):
            write_run(trial, lines, changes(trial))
    return plan


def write_run(trial: Trial, lines: int = 0, changes: dict[str, Any] | None = None) -> None:
    """Leave what a finished trial leaves; the same trial always reaches the same numbers."""
    trial.run_dir.mkdir(parents=True, exist_ok=True)
    content = record(trial) | (changes or {})
    (trial.run_dir / "result.json").write_text(json.dumps(content, indent=2))
    (trial.run_dir / "driver.json").write_text(json.dumps({"wall_s": 30.5, "workers": 2}))
    if lines:
        final = content["metrics"]["test/top1"]
        (trial.run_dir / "metrics.jsonl").write_text("".join(_curve(final, lines)))


def record(trial: Trial) -> dict[str, Any]:
    """Return what `result.json` says of a trial, about as long as a real one."""
    places = {name: math.log1p(_place(label)) for name, label in trial.cell.labels.items()}
    noise = random.Random(f"{trial.cell.key} {trial.seed}")
    by_seed = random.Random(trial.seed).gauss(0, 0.01)  # what a seed does to all cells alike
    score = 0.5 + 0.05 * sum(places.values()) / len(places) + by_seed + noise.gauss(0, 0.01)
    size = math.exp(sum(places.values()))
    metrics = {
        "test/top1": min(score, 0.99),
        "test/loss": 2.0 - score,
        "val/top1": min(score + 0.01, 0.99),
        "model/parameters": round(1e5 * size),
        "model/gflops": 0.01 * size,
        "perf/images_per_s": 9000 / size * noise.uniform(0.9, 1.1),
        "perf/peak_memory_mib": 300 + 20 * size,
        **{f"diag/measure_{k}": noise.random() for k in range(METRICS)},
    }
    return {
        "schema": 1,
        "metrics": metrics,
        "steps": 800,
        "epochs": 8,
        "hparams": dict(trial.cell.labels),
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:04:35+00:00",
        "timing": {"total_s": 30.0, "loop_s": 29.4, "overhead_s": 0.6},
        "command": ["python", "-m", "attnlab", "fit", "--config", "base.yaml"],
        "directory": "/home/user/attnlab",
        "seed": trial.seed,
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "lightning": "2.6.6"},
        "hardware": {"host": "node1", "cpu": "AMD EPYC", "cores": 2, "threads": 1, "gpu": None},
    }


def _place(label: object) -> float:
    return float(label) if isinstance(label, (int, float)) else len(str(label)) / 3


def _stanzas(sizes: Sequence[int], seeds: int) -> dict[str, Any]:
    names = AXES[: len(sizes)]
    axes = {
        name: {"key": f"model.{name}", "values": list(range(1, size + 1))}
        for name, size in zip(names, sizes, strict=True)
    }
    profile = {
        "about": "made-up results",
        "bases": {"fake": "base.yaml"},
        "overrides": {"trainer.max_steps": 800},
        "minutes_per_cell": 0.5,
    }
    study = {
        "question": "Which depth, width, number of heads and rate?",
        "base": "fake",
        "axes": axes,
        "baseline": dict.fromkeys(names, 1),
        "seeds": list(range(seeds)),
        "metric": "test/top1",
    }
    return {"profiles": {"laptop": profile}, "studies": {"simulated": study}}


def _curve(final: float, lines: int) -> list[str]:
    steps = [round(800 * (k + 1) / lines) for k in range(lines)]
    values = [0.1 + (final - 0.1) * (1 - math.exp(-4 * step / 800)) for step in steps]
    return [
        json.dumps({"step": step, "epoch": 0, "val/top1": value, "val/loss": 2 - value}) + "\n"
        for step, value in zip(steps, values, strict=True)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 10])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=0)
    options = parser.parse_args()
    simulate(options.root, options.sizes, options.seeds, lines=options.lines)
