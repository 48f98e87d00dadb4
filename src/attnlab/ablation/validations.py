"""What a trial measured at each of its validations so far."""

import json
import math
from pathlib import Path


def metric_of(tag: str) -> str:
    """Return the validation metric that goes with `tag`: ``val/top1`` for ``test/top1``."""
    return f"val/{tag.removeprefix('test/')}" if tag.startswith("test/") else tag


def read(run_dir: Path, tag: str) -> dict[int, float]:
    """Return the finite values of the metric `tag` by training step, in the order of the steps.

    A resumed run may repeat steps, of which the last value counts, and a line may be torn.
    """
    try:
        lines = (run_dir / "metrics.jsonl").read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    values: dict[int, float] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            step, value = entry["step"], entry[tag]
        except (ValueError, KeyError, TypeError):
            continue
        if type(step) is int and type(value) in (int, float) and math.isfinite(value):
            values[step] = value
    return dict(sorted(values.items()))
