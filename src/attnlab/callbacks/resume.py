"""Going on from a checkpoint as if nothing had happened: the same numbers, bit for bit."""

from typing import Any

import lightning as L
import torch
from torchmetrics import Metric

from attnlab.callbacks import position as loops
from attnlab.callbacks.generators import Generators
from attnlab.callbacks.position import Position
from attnlab.stopping import StopRequested

KEY = "attnlab"


def _metrics(module: L.LightningModule, without: set[int]) -> dict[str, Any]:
    """Return the states of all metrics that have seen something."""
    found = {}
    for name, metric in module.named_modules():
        if isinstance(metric, Metric) and metric._update_count and id(metric) not in without:
            states = {
                key: [each.detach().clone() for each in state]
                if isinstance(state, list)
                else state.detach().clone()
                for key, state in metric.metric_state.items()
            }
            found[name] = {"states": states, "updates": metric._update_count}
    return found


def _restore_metrics(module: L.LightningModule, found: dict[str, Any]) -> None:
    modules = dict(module.named_modules())
    for name, saved in found.items():
        metric = modules[name]
        assert isinstance(metric, Metric)
        for key, state in saved["states"].items():
            many = isinstance(state, list)
            value = [each.to(metric.device) for each in state] if many else state.to(metric.device)
            setattr(metric, key, value)
        metric._update_count = saved["updates"]


class Resume(L.Callback):
    """Puts into checkpoints what Lightning leaves out, and takes it up again.

    That is: how far the epoch is, the states of all random generators, what is logged as a mean
    over the epoch, and the latest metrics. It counts from the end of the latest batch, validation
    or epoch, whenever the checkpoint is saved: a batch or a validation that was under way is done
    again. Each process has its own states; they are gathered where all processes save together,
    and a process that saves because of an exception saves its own alone.

    Loaders that have no state, as `data.keys.LazyLoader` has, are taken up by loading the first
    batches of the epoch once more.

    It must stand behind the callbacks whose doings belong to a batch, and before those that save.
    """

    def __init__(self) -> None:
        self.position: Position | None = None
        """The latest position noted, or the one that the run was resumed from."""
        self._generators: Generators | None = None
        self._order: Generators | None = None  # before the loader began this epoch's pass
        self._accumulated: dict[str, Any] = {}
        self._metrics: dict[str, Any] | None = None
        self._final: dict[str, Any] | None = None
        self._saved: dict[str, Any] | None = None
        self._loaders: dict[str, list[dict[str, Any] | None]] = {}
        self._validations: list[dict[str, Any] | None] = []
        self._limit: int | None = None
        self._stop = self._alone = self._taken_up = self._ending = False

    def _note(self, trainer: L.Trainer, place: loops.Place) -> None:
        self.position = Position.now(trainer, place)
        self._generators = Generators.now(trainer.strategy.root_device)
        self._accumulated = loops.accumulated(trainer) if place != "epoch" else {}
        self._metrics = None
        self._loaders = {
            "train": loops.loader_states(loops.train_loaders(trainer)),
            "val": self._validations or loops.loader_states(loops.validation_loaders(trainer)),
        }

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Note what the first epoch's order comes from."""
        if stage == "fit":
            self._order = Generators.now(trainer.strategy.root_device)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Note what the epoch's order comes from."""
        if trainer.current_epoch > 0 and not trainer.fit_loop.is_resuming:
            self._order = Generators.now(trainer.strategy.root_device)
            if self._taken_up:  # an epoch with nothing left but its end has begun no pass
                loops.rewind(loops.train_loaders(trainer))
                self._taken_up = False

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Note the position."""
        self._note(trainer, "batch")

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Note what the metrics of training hold before those of validation fill."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if self.position is not None and self._metrics is None:
            self._metrics = _metrics(module, set())
        states, self._validations = self._validations, []
        loops.take_up(loops.validation_loaders(trainer), states, 0)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Note the position."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._note(trainer, "validated")

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Note the position."""
        self._note(trainer, "epoch")
        if self._limit is not None:
            trainer.fit_loop.epoch_loop.max_steps, self._limit = self._limit, None
        if self._stop:
            trainer.should_stop, self._stop = True, False

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Keep the metrics, which a test will replace."""
        self._final = dict(trainer.callback_metrics)

    def on_exception(
        self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException
    ) -> None:
        """Expect no other process to save with this one, unless all were asked to stop."""
        self._alone = not isinstance(exception, StopRequested)

    def on_save_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of this run."""
        if self.position is None:
            return
        if self._final is None and self.position.step != trainer.global_step:
            self._note(trainer, "batch")  # an exception between a step and the hook after it
        assert self._generators is not None
        assert self._order is not None
        metrics = self._metrics
        if metrics is None and self._final is None:
            metrics = _metrics(module, loops.done_metrics(trainer, self.position.place))
        own = {
            "generators": self._generators.plain(),
            "order": self._order.plain(),
            "accumulated": self._accumulated,
            "metrics": metrics or {},
            "data": getattr(trainer.datamodule, "counts", lambda: None)(),  # type: ignore[attr-defined]
        }
        latest = self._final if self._final is not None else trainer.callback_metrics
        checkpoint[KEY] = {
            "position": self.position._asdict(),
            "loaders": self._loaders,
            "latest": dict(latest),
            "stopped": trainer.should_stop,
            "finished": self._final is not None,
            "processes": self._gathered(trainer, own),
        }

    def _gathered(self, trainer: L.Trainer, own: dict[str, Any]) -> list[Any]:
        if trainer.world_size == 1 or self._alone:
            return [
                own if rank == trainer.global_rank else None for rank in range(trainer.world_size)
            ]
        everyone: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(everyone, own)
        return everyone

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the states, and correct Lightning's."""
        if trainer.state.fn == "fit" and KEY in checkpoint:
            self._saved = checkpoint[KEY]
            self.position = Position(**checkpoint[KEY]["position"])
            self.position.write_into(checkpoint["loops"]["fit_loop"])
            trainer.num_sanity_val_steps = 0  # it passed, and would wipe out the latest metrics

    def _ends(self, trainer: L.Trainer) -> bool:
        """Return whether the epoch must end here, with what is due at its end."""
        assert self._saved is not None
        assert self.position is not None
        reached = -1 < trainer.max_steps <= self.position.step
        stopped = self.position.place == "validated" and self._saved["stopped"]
        return self.position.place != "epoch" and (reached or stopped)

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Take up the metrics; a fit that had finished ends at once."""
        if self._saved is None:
            return
        loops.restore_metrics(trainer, self._saved["latest"])
        if self._saved["finished"]:
            self._final = dict(self._saved["latest"])
            self._own(trainer)
            trainer.should_stop = self._saved["stopped"]
        elif self._ends(trainer):
            self._ending = True
            self._stop = self._saved["stopped"]
            if trainer.max_steps > -1:  # Lightning would leave at once
                self._limit = trainer.max_steps
                trainer.fit_loop.epoch_loop.max_steps = -1

    def _own(self, trainer: L.Trainer) -> dict[str, Any] | None:
        """Return, and take as noted, what this process saved; None if there were other ones."""
        assert self._saved is not None
        processes = self._saved["processes"]
        if len(processes) != trainer.world_size or processes[trainer.global_rank] is None:
            return None
        own: dict[str, Any] = processes[trainer.global_rank]
        self._generators = Generators.of_plain(own["generators"])
        self._order = Generators.of_plain(own["order"])
        self._loaders, self._accumulated = self._saved["loaders"], own["accumulated"]
        self._metrics = own["metrics"]
        return own

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Go on where the checkpoint was saved."""
        self._final = None
        if self._saved is None:
            self._note(trainer, "epoch")
            return
        assert self.position is not None
        batches = self.position.batches if self.position.place != "epoch" else 0
        if self._ending:
            batches = int(trainer.num_training_batches)
        self._validations = self._saved["loaders"]["val"]
        device, own = trainer.strategy.root_device, self._own(trainer)
        if own is not None:
            loops.accumulate(trainer, own["accumulated"])
            _restore_metrics(module, own["metrics"])
            if own["data"] is not None:
                trainer.datamodule.restore_counts(own["data"])  # type: ignore[attr-defined]
        else:
            self._note(trainer, self.position.place)
        self._take_up(trainer, batches, device)
        loops.settle(trainer, self.position)
        self._saved = None

    def _take_up(self, trainer: L.Trainer, batches: int, device: torch.device) -> None:
        assert self._order is not None
        assert self._generators is not None
        self._taken_up = True
        if not loops.take_up(loops.train_loaders(trainer), self._loaders["train"], batches):
            (self._order if batches else self._generators).restore(device)
            loops.pass_over(trainer, batches)
            if not batches:
                return
        self._generators.restore(device)
