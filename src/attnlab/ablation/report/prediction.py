"""What was predicted before a run, as the report reads it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlab.ablation import rundir
from attnlab.ablation.predict import PREDICTION, Estimate


@dataclass(frozen=True)
class Prediction:
    """What the driver noted before it started a study.

    Attributes:
        made: When, as ISO 8601 with its zone.
        source: What it was made from.
        cells: What one run of a cell was to take, by key of the cell.
        wall_minutes: From the start to the end of everything.
        gpu_hours: Of all runs together; 0 without GPUs.
        workers: Runs at a time.
    """

    made: str
    source: str
    cells: Mapping[str, Estimate]
    wall_minutes: float
    gpu_hours: float
    workers: int


def read(directory: Path) -> Prediction | None:
    """Return the prediction in a study's directory; None if there is none, or it is torn."""
    record = rundir.read_json(directory / PREDICTION)
    try:
        return Prediction(
            made=str(record["made"]),
            source=str(record["source"]),
            cells={key: _estimate(each) for key, each in record["cells"].items()},
            wall_minutes=float(record["wall_minutes"]),
            gpu_hours=float(record["gpu_hours"] or 0.0),
            workers=int(record["workers"] or 0),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _estimate(record: Mapping[str, Any]) -> Estimate:
    error = record.get("error")
    return Estimate(float(record["minutes"]), None if error is None else float(error))
