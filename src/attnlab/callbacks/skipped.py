"""How many samples could not be read."""

from typing import Any

import lightning as L


class SkippedSamples(L.Callback):
    """Logs ``diag/skipped_{train,val,test}``, samples left out in an epoch, where data skip any.

    Data modules that skip have a dictionary `skipped` from the split to its skipped samples, and
    ``on_error`` is ``skip``; see `attnlab.data.loading`.
    """

    def _log(self, trainer: L.Trainer, module: L.LightningModule, split: str) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if data is None or trainer.sanity_checking:
            return
        if getattr(data, "on_error", None) == "skip":
            count = float(len(data.skipped.get(split, ())))
            module.log(f"diag/skipped_{split}", count, reduce_fx="sum", sync_dist=True)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log those of the training epoch."""
        self._log(trainer, module, "train")

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log those of the validation."""
        self._log(trainer, module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log those of the test."""
        self._log(trainer, module, "test")
