"""Made-up studies and runs, through the driver's own dataclasses."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attnlab.ablation.cells import Cell, Result, Trial, expand, trials
from attnlab.ablation.schema import Axis, Label, Profile, Study

PROFILE = Profile(
    name="laptop",
    about="digits among clutter, 32x32, on CPU cores",
    bases={"lisa": Path("lisa.yaml")},
    overrides={"trainer.max_steps": 1300},
    threads_per_cell=1,
    gpus_per_cell=0,
    minutes_per_cell=0.5,
)


def axis(name: str, *labels: Label) -> Axis:
    """An axis that sets the key of its own name."""
    numeric = all(isinstance(label, (int, float)) for label in labels)
    return Axis(name, tuple((label, {f"model.{name}": label}) for label in labels), numeric)


def study(
    *axes: Axis,
    baseline: Mapping[str, Label],
    seeds: Sequence[int] = (0, 1, 2),
    metric: str = "test/top1",
    direction: str = "maximize",
    name: str = "rpe_count",
    question: str = "How many relative position embeddings does LiSA need?",
    extra_metrics: Sequence[str] = (),
) -> Study:
    return Study(
        name=name,
        question=question,
        base="lisa",
        axes=axes,
        baseline=dict(baseline),
        seeds=tuple(seeds),
        metric=metric,
        direction=direction,
        overrides={},
        extra_metrics=tuple(extra_metrics),
    )


def record(seed: int, value: float | None, metric: str = "test/top1", **changes: object) -> dict:
    """What a run's ``result.json`` says; `changes` replaces whole entries."""
    return {
        "schema": 1,
        "metrics": {
            metric: value,
            "model/parameters": 104_310,
            "model/gflops": 0.01234,
            "perf/images_per_s": 4321.0,
            "perf/peak_memory_mib": 612.4,
        },
        "steps": 1300,
        "epochs": 14,
        "seed": seed,
        "hparams": {},
        "started": "2026-11-20T10:00:00+00:00",
        "finished": "2026-11-20T10:00:21+00:00",
        "timing": {"total_s": 21.04, "loop_s": 20.63, "overhead_s": 0.41},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "lightning": "2.6.6"},
        "hardware": {"cpu": "AMD EPYC", "cores": 2, "gpu": None},
        "git": {"commit": "0123456789abcdef", "dirty": False},
    } | changes


Value = Callable[[Cell, int], float | None]


def results(
    study: Study, directory: Path, value: Value, skip: Callable[[Trial], bool] = lambda _: False
) -> list[Result]:
    """A finished run for every trial that is not skipped, with `value(cell, seed)` as metric."""
    return [
        Result(trial, record(trial.seed, value(trial.cell, trial.seed), study.metric))
        for trial in trials(expand(study, PROFILE), study.seeds, directory)
        if not skip(trial)
    ]


def write_curve(run_dir: Path, final: float, tag: str = "val/top1", steps: int = 1300) -> None:
    """Leave a learning curve that ends near `final` in a run's directory."""
    run_dir.mkdir(parents=True)
    lines = [
        {"step": step, "epoch": 0, tag: 0.1 + (final - 0.1) * (1 - math.exp(-4 * step / steps))}
        for step in range(steps // 10, steps + 1, steps // 10)
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (run_dir / "metrics.jsonl").write_text(text, encoding="utf-8")
