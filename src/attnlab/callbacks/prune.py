"""Ending a run that a search has given up."""

from pathlib import Path
from typing import Any

import lightning as L

LINK = "PRUNE"
"""Its name in the run directory; whoever decides about the run makes this file."""


class PruneLink(L.Callback):
    """Ends a fit after the validation at which the file `LINK` is found.

    Rank 0 looks, for all processes: they may not see one file system alike at one time.

    Attributes:
        pruned: Whether it was found.

    Args:
        run_dir: The run directory.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / LINK
        self.pruned = False

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Look for the file."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        found = trainer.is_global_zero and self.path.exists()
        self.pruned = trainer.strategy.broadcast(found)
        if self.pruned:
            trainer.should_stop = True
            trainer.fit_loop.min_epochs = 0  # which would keep the run going
            trainer.fit_loop.epoch_loop.min_steps = None

    def state_dict(self) -> dict[str, Any]:
        """Return whether the run was given up."""
        return {"pruned": self.pruned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take that up."""
        self.pruned = state_dict["pruned"]
