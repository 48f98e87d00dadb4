"""Throughput, memory and size of a training run."""

import contextlib
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only

from attnlab.callbacks.complexity import forward_gflops

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _resident_mib(peak: bool) -> float:
    """Return the resident (or peak resident) memory of this process in MiB."""
    if _STATUS.exists():
        field = "VmHWM:" if peak else "VmRSS:"
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _reset_peak(device: torch.device) -> float:
    """Forget earlier peaks; return the level above which the new peak counts, in MiB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return 0.0
    with contextlib.suppress(OSError):  # no such file, or /proc is read-only: the peak is higher
        _CLEAR_REFS.write_text("5")  # resets VmHWM, see proc(5)
    return _resident_mib(peak=False)


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return _resident_mib(peak=True)


class Performance(L.Callback):
    """Measures a fit; the figures are in `summary` and in the logger once it has ended.

    - ``model/parameters``: trainable parameters.
    - ``model/gflops``: forward pass of one sample, see `forward_gflops`.
    - ``perf/images_per_s``: training samples per second over all devices, loading included,
      validation excluded.
    - ``perf/peak_memory_mib``: on CUDA the peak allocated on one device; on CPU the peak resident
      memory of the training process above its level when training began.

    A resumed run goes on counting samples and seconds, and keeps the highest peak.
    """

    def __init__(self) -> None:
        self.summary: dict[str, float] = {}
        self._samples = 0
        self._seconds = 0.0
        self._since: float | None = None
        self._level = self._peak = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the counts so far, for a checkpoint."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return {
            "summary": dict(self.summary),
            "samples": self._samples,
            "seconds": self._seconds + running,
            "peak": self._peak,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the counts of a checkpoint."""
        self.summary = dict(state_dict["summary"])
        self._samples, self._seconds = state_dict["samples"], state_dict["seconds"]
        self._peak = state_dict["peak"]

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Count parameters and FLOPs."""
        trainable = (parameter for parameter in module.parameters() if parameter.requires_grad)
        self.summary["model/parameters"] = sum(parameter.numel() for parameter in trainable)
        shape = getattr(getattr(trainer, "datamodule", None), "input_shape", None)
        if shape is not None and trainer.is_global_zero:
            self.summary["model/gflops"] = forward_gflops(module, tuple(shape))

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start measuring memory, and the time if an epoch has begun already."""
        self._level = _reset_peak(module.device)
        if trainer.fit_loop.is_resuming:
            self._resume(module)

    def _resume(self, module: L.LightningModule) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        self._since = time.perf_counter()

    def _pause(self, module: L.LightningModule) -> None:
        if self._since is not None:
            since = self._since
            self._resume(module)
            self._seconds += self._since - since
            self._since = None

    def _note_peak(self, module: L.LightningModule) -> None:
        self._peak = max(self._peak, _peak_mib(module.device) - self._level)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock."""
        if self._since is None:
            self._resume(module)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop the clock during validation."""
        self._pause(module)
        if not trainer.sanity_checking:  # which comes before the level is known
            self._note_peak(module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock again."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._resume(module)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop the clock."""
        self._pause(module)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Count samples."""
        self._samples += len(batch[0])

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log the summary."""
        self._note_peak(module)
        self.summary["perf/peak_memory_mib"] = self._peak
        if self._seconds:
            samples = self._samples * trainer.world_size
            self.summary["perf/images_per_s"] = samples / self._seconds
        self._log(trainer)

    @rank_zero_only
    def _log(self, trainer: L.Trainer) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(self.summary, trainer.global_step)
