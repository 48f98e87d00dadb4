"""The run directory as the record of a run."""

import datetime
import json
import math
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from attnlab.callbacks.provenance import PATCH, changes, provenance
from attnlab.files import write_atomically

SCHEMA = 1


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _floats(metrics: dict[str, Any]) -> dict[str, float | None]:
    """Convert metrics for JSON, which has no NaN: what is not finite becomes null."""
    values = {name: float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _validations(trainer: L.Trainer) -> int:
    """Return how many validations the whole fit has, as far as this can be known."""
    if not trainer.enable_validation:
        return 0
    every_epochs = trainer.check_val_every_n_epoch or 1
    batches = int(trainer.estimated_stepping_batches) * trainer.accumulate_grad_batches
    every = min(float(trainer.num_training_batches), float(trainer.val_check_batch or math.inf))
    if math.isinf(every):  # nobody knows how long an epoch is
        return max(0, trainer.max_epochs or 0) // every_epochs
    return int(batches / (every * every_epochs))


class RunRecord(L.Callback):
    """Writes what a run is and does into its directory; only rank 0 writes.

    - ``provenance.json``: command, seed, git state, versions, hardware and environment variables;
      when a run begins. With it ``changes.patch`` if the code is not that of a commit.
    - ``progress.json``: epoch and step of how many, at most once a second; when the run was first
      ``started`` and this was ``updated``, and the seconds spent in its loops (``elapsed_s``) for
      these steps, of all its attempts; and how many ``validations`` the whole fit has.
    - ``metrics.jsonl``: one line per validation, with the step and every metric logged so far.
    - ``result.json`` (`write_result`): everything above and the timing, when it has finished;
      ``loop_s`` is the time inside the fit and test loops, ``overhead_s`` all the rest,
      and ``validate_s`` the part of the former that the validations of the fit took.

    A resumed run goes on with the lines and the times of its checkpoint; what an attempt did after
    its last checkpoint counts in neither.

    Args:
        run_dir: The directory; made when missing.
        seed: The seed of the run, recorded only.
        hparams: What an ablation varies, by name, recorded only.
    """

    def __init__(self, run_dir: Path, seed: int | None, hparams: dict[str, Any]) -> None:
        self.run_dir = run_dir
        self.hparams = hparams
        self._loop_s = self._total_s = self._validate_s = 0.0
        self._origin = time.monotonic()
        self._started = _now()
        self._seed = seed
        self._begun: float | None = None
        self._validating = 0.0
        self._lines: list[str] = []
        self._progress_written = -math.inf
        self._provenance: dict[str, Any] = {}

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Write the provenance of a fit; a later test must not replace it."""
        if not self._provenance and trainer.is_global_zero:
            self._provenance = provenance(self._seed)
            if stage == "fit":
                self._write("provenance.json", self._provenance)
                self._write_changes()
        if stage == "fit":
            self._rewrite()

    def state_dict(self) -> dict[str, Any]:
        """Return the record so far, for a checkpoint."""
        return {
            "started": self._started,
            "loop_s": self._in_loops(),
            "total_s": self._total(),
            "validate_s": self._validate_s,
            "lines": list(self._lines),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the record of a checkpoint; lines that were written after it are dropped."""
        self._started, self._lines = state_dict["started"], list(state_dict["lines"])
        self._loop_s, self._total_s = state_dict["loop_s"], state_dict["total_s"]
        self._validate_s = state_dict["validate_s"]
        self._rewrite()

    def _in_loops(self) -> float:
        """Return the seconds spent in loops, the present one included."""
        running = 0.0 if self._begun is None else time.monotonic() - self._begun
        return self._loop_s + running

    def _total(self) -> float:
        return self._total_s + time.monotonic() - self._origin

    def _end_loop(self) -> None:
        self._loop_s, self._begun = self._in_loops(), None

    @rank_zero_only
    def _rewrite(self) -> None:
        """Write metrics.jsonl anew."""
        path = self.run_dir / "metrics.jsonl"
        if self._lines:
            write_atomically(path, "".join(self._lines))
        else:
            path.unlink(missing_ok=True)

    @rank_zero_only
    def _write(self, name: str, content: dict[str, Any]) -> None:
        write_atomically(self.run_dir / name, json.dumps(content, indent=2, default=str) + "\n")

    def _write_changes(self) -> None:
        path = self.run_dir / PATCH
        if self._provenance["git"]["dirty"]:
            write_atomically(path, changes())
        else:
            path.unlink(missing_ok=True)

    def _progress(self, trainer: L.Trainer) -> None:
        self._progress_written = time.monotonic()
        limits = trainer.max_epochs, int(trainer.estimated_stepping_batches)
        position = trainer.current_epoch, trainer.global_step
        names = ("max_epochs", "max_steps", "epoch", "step")
        clock = {"started": self._started, "updated": _now(), "elapsed_s": self._in_loops()}
        plan = {"validations": _validations(trainer)}
        counts = dict(zip(names, (*limits, *position), strict=True))
        self._write("progress.json", counts | clock | plan)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock."""
        self._begun = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Note the progress, at most once a second."""
        if time.monotonic() - self._progress_written >= 1:
            self._progress(trainer)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock of the validation."""
        self._validating = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Append the metrics."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._validate_s += time.monotonic() - self._validating
        position = {"step": trainer.global_step, "epoch": trainer.current_epoch}
        line = json.dumps({**position, **_floats(trainer.callback_metrics)}) + "\n"
        self._lines.append(line)
        self._append(line)

    @rank_zero_only
    def _append(self, line: str) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with (self.run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop the clock."""
        self._end_loop()
        self._progress(trainer)

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock of the test."""
        self._begun = time.monotonic()

    def on_test_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop the clock of the test."""
        self._end_loop()

    def write_result(
        self, trainer: L.Trainer, name: str, metrics: dict[str, Any], pruned: bool = False
    ) -> None:
        """Write the final record of a finished run.

        Args:
            trainer: The trainer that ran.
            name: File name in the run directory, ``result.json`` for a fit.
            metrics: Final metrics by tag; one that is not finite is stored as null.
            pruned: Whether a search gave the run up, see `PruneLink`.
        """
        total = self._total()
        timing = {"total_s": total, "loop_s": self._loop_s, "overhead_s": total - self._loop_s}
        timing["validate_s"] = self._validate_s
        content = {
            "schema": SCHEMA,
            "metrics": _floats(metrics),
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            "hparams": self.hparams,
            **({"pruned": True} if pruned else {}),
            "started": self._started,
            "finished": _now(),
            "timing": {key: round(value, 3) for key, value in timing.items()},
            **self._provenance,
        }
        self._complete()
        self._write(name, content)

    @rank_zero_only
    def _complete(self) -> None:
        """Bring back the lines of metrics.jsonl if somebody removed the directory meanwhile."""
        path = self.run_dir / "metrics.jsonl"
        size = path.stat().st_size if path.exists() else 0
        if self._lines and size != sum(map(len, self._lines)):
            self._rewrite()
