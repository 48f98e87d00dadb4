"""The run directory as the record of a run."""

import datetime
import json
import math
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from attnlab.callbacks.provenance import provenance
from attnlab.files import write_atomically

SCHEMA = 1


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _floats(metrics: dict[str, Any]) -> dict[str, float | None]:
    """Convert metrics for JSON, which has no NaN: what is not finite becomes null."""
    values = {name: float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


class RunRecord(L.Callback):
    """Writes what a run is and does into its directory; only rank 0 writes.

    - ``provenance.json``: command, seed, git state, versions, hardware; when a run begins.
    - ``progress.json``: epoch and step of how many; at most once a second.
    - ``metrics.jsonl``: one line per validation, with the step and every metric logged so far.
    - ``result.json`` (`write_result`): everything above and the timing, when it has finished;
      ``loop_s`` is the time inside the fit and test loops, ``overhead_s`` all the rest.

    Args:
        run_dir: The directory; made when missing.
        seed: The seed of the run, recorded only.
        hparams: What an ablation varies, by name, recorded only.
    """

    def __init__(self, run_dir: Path, seed: int | None, hparams: dict[str, Any]) -> None:
        self.run_dir = run_dir
        self.hparams = hparams
        self._loop_s = 0.0
        self._origin = time.monotonic()
        self._started = _now()
        self._seed = seed
        self._begun = 0.0
        self._progress_written = -math.inf
        self._provenance: dict[str, Any] = {}

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Write the provenance of a fit; a later test must not replace it."""
        if not self._provenance:
            self._provenance = provenance(self._seed)
            if stage == "fit":
                self._write("provenance.json", self._provenance)

    @rank_zero_only
    def _write(self, name: str, content: dict[str, Any]) -> None:
        write_atomically(self.run_dir / name, json.dumps(content, indent=2, default=str) + "\n")

    def _progress(self, trainer: L.Trainer) -> None:
        self._progress_written = time.monotonic()
        limits = trainer.max_epochs, int(trainer.estimated_stepping_batches)
        position = trainer.current_epoch, trainer.global_step
        names = ("max_epochs", "max_steps", "epoch", "step")
        self._write("progress.json", dict(zip(names, (*limits, *position), strict=True)))

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock."""
        self._begun = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Note the progress, at most once a second."""
        if time.monotonic() - self._progress_written >= 1:
            self._progress(trainer)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Append the metrics."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        position = {"step": trainer.global_step, "epoch": trainer.current_epoch}
        self._append({**position, **_floats(trainer.callback_metrics)})

    @rank_zero_only
    def _append(self, line: dict[str, Any]) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with (self.run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop the clock."""
        self._loop_s += time.monotonic() - self._begun
        self._progress(trainer)

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock of the test."""
        self._begun = time.monotonic()

    def on_test_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop the clock of the test."""
        self._loop_s += time.monotonic() - self._begun

    def write_result(self, trainer: L.Trainer, name: str, metrics: dict[str, Any]) -> None:
        """Write the final record of a finished run.

        Args:
            trainer: The trainer that ran.
            name: File name in the run directory, ``result.json`` for a fit.
            metrics: Final metrics by tag; one that is not finite is stored as null.
        """
        total = time.monotonic() - self._origin
        timing = {"total_s": total, "loop_s": self._loop_s, "overhead_s": total - self._loop_s}
        content = {
            "schema": SCHEMA,
            "metrics": _floats(metrics),
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            "hparams": self.hparams,
            "started": self._started,
            "finished": _now(),
            "timing": {key: round(value, 3) for key, value in timing.items()},
            **self._provenance,
        }
        self._write(name, content)
