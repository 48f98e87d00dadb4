"""Stopping a run in good order when a signal asks for it, and checkpoints against worse."""

import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import WeightAveraging
from torch import distributed

from attnlab import stopping
from attnlab.callbacks import position

_NOTHING, _SAVE, _STOP = 0, 1, 2


class StopOnRequest(L.Callback):
    """Saves a checkpoint and ends the process when it has been asked to, see `attnlab.stopping`.

    Between two optimiser steps, after a validation or, in a single process, within one. All
    processes agree on it, whichever of them got the signal. It must stand behind all others.

    Args:
        path: The checkpoint.
        every_minutes: Save the same file this often while training, too; None: never.
    """

    def __init__(self, path: Path, every_minutes: float | None) -> None:
        self.path = path
        self._interval = float("inf") if every_minutes is None else 60 * every_minutes
        self._saved = time.monotonic()
        self._accumulating = self._together = False
        self._voters: distributed.ProcessGroup | None = None

    def _agreed(self, trainer: L.Trainer) -> int:
        """Return what there is to do for any of the processes."""
        due = time.monotonic() - self._saved >= self._interval
        wanted = _STOP if stopping.requested() else _SAVE if due else _NOTHING
        if trainer.world_size > 1:
            if self._voters is None:  # with NCCL each vote would make the CPU wait for the GPU
                self._voters = distributed.new_group(backend="gloo")
            votes = torch.tensor(wanted)
            distributed.all_reduce(votes, distributed.ReduceOp.MAX, group=self._voters)
            wanted = int(votes)
        self._together = wanted == _STOP
        return wanted

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)
        self._saved = time.monotonic()

    def _leave(self, trainer: L.Trainer) -> NoReturn:
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if isinstance(environment, LightningEnvironment) and trainer.global_rank:
            # The process that Lightning started this one from is killed when this one fails.
            raise stopping.StopRequested(0)
        raise stopping.StopRequested

    def on_exception(
        self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException
    ) -> None:
        """End the processes that Lightning started from this one, which would wait for it."""
        leaving = isinstance(exception, stopping.StopRequested) and self._together
        if not leaving and trainer.strategy.launcher:
            trainer.strategy.launcher.kill(signal.SIGKILL)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Look for signals from now on."""
        stopping.watch()
        if self._agreed(trainer) == _STOP:
            self._leave(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Stop after an optimiser step."""
        self._accumulating = position.accumulating(trainer)
        if self._accumulating:  # a checkpoint has no gradients
            return
        wanted = self._agreed(trainer)
        if wanted != _NOTHING:
            self._save(trainer)
        if wanted == _STOP:
            position.log_step(trainer)
            self._leave(trainer)

    def on_validation_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, *arguments: Any
    ) -> None:
        """Stop within a validation, which is begun anew later.

        Processes have different numbers of batches, so several cannot agree here.
        """
        fit = trainer.state.fn == "fit" and not trainer.sanity_checking
        if not fit or self._accumulating or trainer.world_size > 1 or not stopping.requested():
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):  # its average stands in the model's place
                callback.on_validation_epoch_end(trainer, module)
        self._save(trainer)
        self._leave(trainer)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop after a validation."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or self._accumulating:
            return
        if self._agreed(trainer) == _STOP:
            self._save(trainer)
            self._leave(trainer)

    def before_test(self, trainer: L.Trainer) -> None:
        """Stop between a fit and its test, or see to it that the test can be stopped.

        Args:
            trainer: It has fitted.
        """
        kept = trainer.checkpoint_callback is not None
        wanted = self._agreed(trainer)
        if not kept and (wanted == _STOP or trainer.world_size > 1):
            self._save(trainer)
        if wanted == _STOP:
            self._leave(trainer)

    def on_test_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, *arguments: Any
    ) -> None:
        """Stop within a test; the checkpoint of the fit is there."""
        if stopping.requested():
            if trainer.checkpoint_callback is None and trainer.world_size == 1:
                self._save(trainer)
            self._leave(trainer)
