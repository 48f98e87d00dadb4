"""Where in a fit training is, in Lightning 2.6's own counters, most of which are private.

What Lightning makes of a checkpoint's counters depends on the hook it was saved in: after the last
batch before a validation it skips the validation, at an epoch's end with `max_steps` it skips an
epoch. Here they are set so that one of its ways goes on where training was.
"""

from typing import Any, Literal, NamedTuple

import lightning as L
import torch
from lightning.pytorch.trainer.connectors.logger_connector.result import (
    _Metadata,
    _ResultMetric,
    _Sync,
)

Place = Literal["batch", "validated", "epoch"]


class Position(NamedTuple):
    """A place in a fit.

    Attributes:
        place: After a batch, after the validation that followed it, or between two epochs.
        epoch: Finished epochs.
        batches: Finished batches of this epoch.
        total: Finished batches of all epochs.
        last: Whether the batch was its epoch's last.
        logged: Lightning's counter of steps in loggers.
        step: Optimiser steps.
    """

    place: Place
    epoch: int
    batches: int
    total: int
    last: bool
    logged: int
    step: int

    @classmethod
    def now(cls, trainer: L.Trainer, place: Place) -> "Position":
        """Return the present position; `place` says which hook runs."""
        fit, batches = trainer.fit_loop, trainer.fit_loop.epoch_loop.batch_progress
        return cls(
            place,
            fit.epoch_progress.current.processed,  # type: ignore[attr-defined]
            batches.current.ready,
            batches.total.ready,
            batches.is_last_batch,
            fit.epoch_loop._batches_that_stepped,
            trainer.global_step,
        )

    @property
    def next_logged(self) -> int:
        """The first step in loggers that is still to come."""
        return self.logged + (self.place != "epoch")

    def write_into(self, loops: dict[str, Any]) -> None:
        """Change the state of a fit loop so that it goes on from here."""
        begun = self.place != "epoch"
        for part in loops["epoch_progress"].values():
            part.update(dict.fromkeys(("ready", "started"), self.epoch + begun))
            part.update(dict.fromkeys(("processed", "completed"), self.epoch))
        batches = loops["epoch_loop.batch_progress"]
        batches["total"] = dict.fromkeys(batches["total"], self.total)
        batches["current"] = dict.fromkeys(batches["current"], self.batches if begun else 0)
        batches["is_last_batch"] = self.last and begun
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] = self.logged
        # A validation that had begun is what Lightning runs again, and from its start; whether
        # one is due it sees by itself.
        validation = loops["epoch_loop.val_loop.batch_progress"]
        pending = int(self.place == "batch")
        validation["total"] = {"ready": pending, "started": pending, "processed": 0, "completed": 0}
        validation["current"] = dict.fromkeys(validation["current"], 0)
        validation["is_last_batch"] = False


def settle(trainer: L.Trainer, position: Position) -> None:
    """Correct the loops once they run, by what they cannot know of `position`."""
    fit = trainer.fit_loop
    if position.place == "epoch":
        fit._restarting = False  # with max_steps it takes every checkpoint for one within an epoch
        fit.epoch_loop.restarting = False
        return
    # The next batch is not the first of its epoch, at which sums over the epoch begin anew.
    trainer._logger_connector._first_loop_iter = True
    if not fit.epoch_loop._should_check_val_fx(fit._data_fetcher):  # type: ignore[arg-type]
        fit.epoch_loop._batches_that_stepped += not fit._should_accumulate()


def train_loaders(trainer: L.Trainer) -> list[Any]:
    """Return the loaders of the training data."""
    loaders = trainer.fit_loop._combined_loader
    return [] if loaders is None else list(loaders.flattened)


def validation_loaders(trainer: L.Trainer) -> list[Any]:
    """Return the loaders of the validation data, if they are there yet."""
    loaders = trainer.fit_loop.epoch_loop.val_loop._combined_loader
    return [] if loaders is None else list(loaders.flattened)


def loader_states(loaders: list[Any]) -> list[dict[str, Any] | None]:
    """Return the states of those that have one."""
    return [each.state_dict() if hasattr(each, "state_dict") else None for each in loaders]


def take_up(loaders: list[Any], states: list[dict[str, Any] | None], batches: int) -> bool:
    """Let stateful loaders begin behind so many batches; return whether all are stateful.

    Args:
        loaders: The loaders.
        states: Their states, of `loader_states`.
        batches: Finished batches of the epoch; what a loader had handed out may be more.
    """
    stateful = all(hasattr(loader, "load_state_dict") for loader in loaders)
    for loader, state in zip(loaders, states, strict=False):
        if stateful and state is not None:
            loader.load_state_dict({**state, "batches": batches} if "batches" in state else state)
    return stateful


def rewind(loaders: list[Any]) -> None:
    """Let the next pass of loaders that `take_up` has set begin at the beginning."""
    for loader in loaders:
        state = loader.state_dict() if hasattr(loader, "state_dict") else {}
        if "batches" in state:
            loader.load_state_dict({**state, "batches": 0})


def pass_over(trainer: L.Trainer, batches: int) -> None:
    """Begin a pass over the training data anew and leave out its first batches."""
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    iter(fetcher)
    for _ in range(batches):
        next(fetcher, None)
    fetcher.fetched = 0  # the loop adds what it has finished


def accumulating(trainer: L.Trainer) -> bool:
    """Return whether gradients of the latest batch still wait for their optimiser step."""
    return trainer.fit_loop._should_accumulate()


def log_step(trainer: L.Trainer) -> None:
    """Log what a step has logged, as Lightning does after `on_train_batch_end`."""
    trainer._logger_connector.on_batch_end()
    trainer._logger_connector.update_train_step_metrics()


def restore_metrics(trainer: L.Trainer, metrics: dict[str, Any]) -> None:
    """Put back the latest values of what was logged."""
    device = trainer.strategy.root_device
    values = {name: value.to(device) for name, value in metrics.items()}
    trainer._logger_connector._callback_metrics.update(values)


_FIELDS = (
    *("fx", "name", "prog_bar", "logger", "on_step", "on_epoch"),
    *("enable_graph", "add_dataloader_idx", "dataloader_idx", "metric_attribute"),
)
_STATES = ("value", "cumulated_batch_size", "_forward_cache")


def accumulated(trainer: L.Trainer) -> dict[str, dict[str, Any]]:
    """Return what has been logged in this epoch of training and is summed up over it."""
    found: dict[str, dict[str, Any]] = {}
    for key, item in trainer.fit_loop.epoch_loop._results.items():
        if item.meta.on_epoch and not item.has_reset:
            meta, sync = item.meta, item.meta.sync
            found[key] = {
                "meta": {name: getattr(meta, name) for name in _FIELDS},
                "reduce": meta.reduce_fx.__name__,
                "sync": {"_should": sync.should, "rank_zero_only": sync.rank_zero_only},
                "states": {name: getattr(item, name, None) for name in _STATES}
                if item.is_tensor
                else None,  # those of a metric are the module's
                "updates": item._update_count,
            }
    return found


def accumulate(trainer: L.Trainer, found: dict[str, dict[str, Any]]) -> None:
    """Put back what `accumulated` returned."""
    for key, saved in found.items():
        meta = _Metadata(**saved["meta"], reduce_fx=getattr(torch, saved["reduce"]))
        meta.sync = _Sync(**saved["sync"], fn=trainer.strategy.reduce)
        item = _ResultMetric(meta, is_tensor=saved["states"] is not None)
        if saved["states"] is None:
            item.value = trainer.lightning_module.get_submodule(meta.metric_attribute or "")
        for name, value in (saved["states"] or {}).items():
            if value is not None:
                setattr(item, name, value.to(trainer.strategy.root_device))
        item._update_count = saved["updates"]
        trainer.fit_loop.epoch_loop._results[key] = item


def done_metrics(trainer: L.Trainer, place: Place) -> set[int]:
    """Return the identities of the metrics that Lightning resets after the hooks of `place`."""
    epoch = trainer.fit_loop.epoch_loop
    results = [*epoch.val_loop._results.values()]
    if place == "epoch":
        results += epoch._results.values()
    return {id(item.value) for item in results if not item.is_tensor}
