"""Redundancy of the trained network, measured when a fit has ended."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import Tensor

from attnlab.analysis import overlay
from attnlab.analysis.recording import HeldOut
from attnlab.analysis.redundancy import Analysis, analyse
from attnlab.callbacks.figures import contact_sheet


class Redundancy(HeldOut):
    """Measures CKA between layers and the redundancy of kernels at the end of a fit.

    The figures of `Analysis.summary`, ``diag/cka`` and ``diag/kernel_...``, are logged and go into
    ``result.json``; an ablation shows them where its study names them under ``extra_metrics``.
    Pictures are logged to TensorBoard: the tables between layers, and every mixer's kernel at the
    token in the middle of the first sample, a map per head. `attnlab analyze` draws more of them.

    The samples are the first of the last validation, so that nothing is loaded for them; a fit
    without one is not analysed. Only a run that was stopped after its last validation, and goes on
    from there, has to load them again. Where an analysis fails, as of a network without token
    mixers, a warning says why and the fit ends as any other. Training is not touched: nothing
    random is drawn, and the analysis runs on the CPU, where Lightning has taken the network by
    then.

    Args:
        samples: Held-out samples, at least 4. Minibatches of fewer than 4 do not count.
        kernel_samples: Samples of the first minibatch whose kernels are looked at.
        max_queries: Query tokens that are looked at in every kernel.

    Attributes:
        summary: The figures, by tag; empty until the fit has ended.

    Raises:
        ValueError: A number is too small.
    """

    def __init__(self, samples: int = 64, kernel_samples: int = 16, max_queries: int = 196) -> None:
        super().__init__(samples)
        for name, value, least in (
            ("samples", samples, 4),
            ("kernel_samples", kernel_samples, 1),
            ("max_queries", max_queries, 1),
        ):
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        self.kernel_samples = kernel_samples
        self.max_queries = max_queries
        self.summary: dict[str, float] = {}
        self._validated = False

    def state_dict(self) -> dict[str, Any]:
        """Return whether there has been a validation; its samples would be large."""
        return {"validated": self._validated or bool(self.batches)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take that up."""
        self._validated = state_dict["validated"]

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Analyse and log."""
        if self._validated and not self.batches:
            self._load(trainer, module)
        if not self.batches:
            return
        self._validated = True
        try:
            found = analyse(module, self.batches, self.kernel_samples, self.max_queries)
        except (ValueError, RuntimeError) as error:  # the result of the fit shall not be lost
            rank_zero_warn(f"redundancy is not measured: {error}")
            return
        self.summary = found.summary()
        self._log(trainer, module, found)
        self.batches = []

    def _load(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Load what the last validation of an earlier attempt began with, as it got it."""
        stage = trainer.state.stage
        trainer.validating = True
        # What making a loader draws would not be drawn in a run that was never stopped.
        with torch.random.fork_rng(devices=[]):
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
            for index, batch in enumerate(trainer.val_dataloaders or ()):
                batch = trainer.precision_plugin.convert_input(batch)
                batch = trainer.strategy.batch_to_device(
                    module._on_before_batch_transfer(batch), dataloader_idx=0
                )
                self.on_validation_batch_start(trainer, module, batch, index)
                if sum(map(len, self.batches)) >= self.samples:
                    break
        trainer.state.stage = stage

    @rank_zero_only
    def _log(self, trainer: L.Trainer, module: L.LightningModule, found: Analysis) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(self.summary, trainer.global_step)
            if isinstance(logger, TensorBoardLogger):
                for tag, maps in _pictures(module, found, self.batches[0][0]):
                    sheet = contact_sheet(maps)
                    logger.experiment.add_image(tag, sheet, trainer.global_step, dataformats="HWC")


def _pictures(
    module: L.LightningModule, found: Analysis, sample: Tensor
) -> Iterator[tuple[str, Float[Tensor, "map rows columns"]]]:
    if len(found.layers) > 1:
        # A scalar is called diag/cka: of two series of one name, TensorBoard shows neither.
        yield "diag/cka_layers", found.cka.nan_to_num().float().unsqueeze(0)
    if len(found.kernels) > 1:
        yield "diag/kernel_similarity", found.similarity.nan_to_num().unsqueeze(0)
    height, width = sample.shape[-2:]
    for one in overlay.kernels_at(module, sample, [(height // 2, width // 2)]):
        yield f"diag/{one.mixer}/kernel", one.kappa[0]
