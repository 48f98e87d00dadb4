"""A run: its directory, its callbacks, and how it goes on and ends."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.loggers import TensorBoardLogger

from attnlab.callbacks import checkpoints
from attnlab.callbacks.figures import LearntMaps
from attnlab.callbacks.performance import Performance
from attnlab.callbacks.position import Position
from attnlab.callbacks.prune import PruneLink
from attnlab.callbacks.record import RunRecord
from attnlab.callbacks.resume import KEY, Resume
from attnlab.callbacks.session import log_session
from attnlab.callbacks.skipped import SkippedSamples
from attnlab.callbacks.stop import StopOnRequest


class Run:
    """Everything of a run besides its data, model and trainer.

    Args:
        run_dir: Its directory.
        seed: Its seed, recorded only.
        hparams: What an ablation varies, by name, recorded only.
        every_minutes: How often to save a checkpoint besides those of the trainer; None: never.
    """

    def __init__(
        self, run_dir: Path, seed: int | None, hparams: dict[str, Any], every_minutes: float | None
    ) -> None:
        self.run_dir = run_dir
        self.record = RunRecord(run_dir, seed, hparams)
        self.performance = Performance()
        self.prune = PruneLink(run_dir)
        self.stop = StopOnRequest(run_dir / checkpoints.STOPPED, every_minutes)
        self.checkpoint: Path | None = None
        self._seed = seed
        self._purge: int | None = None

    def find(self) -> None:
        """Choose the newest checkpoint to go on from, or none if there is none."""
        self._purge = 0  # without one, nothing of earlier attempts counts
        found = checkpoints.newest(self.run_dir)
        if found is not None:
            self.checkpoint, content = found
            self._purge = content["global_step"]
            if KEY in content:
                self._purge = Position(**content[KEY]["position"]).next_logged

    def logger(self) -> TensorBoardLogger:
        """Return the logger; what is later than the checkpoint is not shown."""
        # A fixed (empty) name and version keep a restarted run in one directory.
        kwargs: dict[str, Any] = {} if self._purge is None else {"purge_step": self._purge}
        return TensorBoardLogger(
            self.run_dir, name="", version="", default_hp_metric=False, **kwargs
        )

    def callbacks(self, given: Sequence[L.Callback]) -> list[L.Callback]:
        """Return the callbacks of a trainer, in their order, beginning with those `given`."""
        own = [self.record, self.performance, SkippedSamples(), LearntMaps(), self.prune, Resume()]
        return [*given, *own]

    def plugins(self, given: Sequence[Any]) -> list[Any]:
        """Return the plugins of a trainer, those `given` and what stands in for Lightning's."""
        plugins = list(given)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(checkpoints.WholeCheckpoints())
        placed = any(isinstance(plugin, ClusterEnvironment) for plugin in plugins)
        if SLURMEnvironment.detect() and not placed:
            # Whoever started the job requeues it, by the exit status.
            plugins.append(SLURMEnvironment(auto_requeue=False))
        return plugins

    def attach(self, trainer: L.Trainer) -> None:
        """Make a trainer stop on request, and in no other way."""
        # Behind the checkpoint callbacks, which the trainer puts last.
        trainer.callbacks.append(self.stop)  # type: ignore[attr-defined]
        # Lightning's handlers exit with status 0, requeue jobs, and broadcast from within.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]

    def metrics(self, trainer: L.Trainer) -> dict[str, Any]:
        """Return the final metrics of a fit: those logged, and the callbacks' summaries."""
        metrics = dict(trainer.callback_metrics)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            summary = getattr(callback, "summary", None)
            metrics |= summary if isinstance(summary, dict) else {}
        return metrics

    def finish(self, trainer: L.Trainer, test: Callable[[], Any] | None) -> None:
        """Keep the final weights, test them, write the result.

        Args:
            trainer: It has fitted.
            test: Tests the model; None: no test. A pruned run is not tested.
        """
        if trainer.checkpoint_callback is not None:
            # A run may end between two validations, after which Lightning saves by default.
            trainer.save_checkpoint(self.run_dir / "checkpoints" / "last.ckpt")
        metrics = self.metrics(trainer)
        tested = test is not None and not self.prune.pruned
        if test is not None and tested:
            self.stop.before_test(trainer)
            test()
            metrics |= trainer.callback_metrics
        logger = trainer.logger
        if self.record.hparams and isinstance(logger, TensorBoardLogger):
            log_session(logger, self.record.hparams, self._seed)
        self.record.write_result(trainer, "result.json", metrics, pruned=self.prune.pruned)
        if trainer.is_global_zero:
            self.stop.path.unlink(missing_ok=True)


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """End a process of several at once when it ends early.

    The interpreter's own end waits for connections to the others, which may be in use for ever.
    """
    try:
        yield
    except BaseException as error:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise
        status = error.code if isinstance(error, SystemExit) else 1
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status if isinstance(status, int) else status is not None)


def limit_samples(trainer: L.Trainer, datamodule: Any, samples: int) -> None:
    """Let a fit end after so many training samples, rounded up to whole steps, and never earlier.

    Args:
        trainer: The trainer; how many batches and processes share a step is its own.
        datamodule: The data; its ``batch_size`` counts samples per batch and process.
        samples: The number.

    Raises:
        ValueError: The data have no such attribute.
    """
    batch = getattr(datamodule, "batch_size", None)
    if not isinstance(batch, int):
        raise ValueError(f"max_samples={samples} needs data with a batch_size")
    step = batch * trainer.world_size * trainer.accumulate_grad_batches
    trainer.fit_loop.epoch_loop.max_steps = -(-samples // step)
    trainer.fit_loop.max_epochs = -1
