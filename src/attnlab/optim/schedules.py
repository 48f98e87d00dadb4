"""Learning-rate schedules, stepped once per optimiser step."""

from typing import Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR


class ScheduleFactory(Protocol):
    """Builds a schedule for a run whose length the trainer knows."""

    def __call__(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        """Return a schedule over `total_steps` optimiser steps."""


def warmup_steps(total_steps: int, warmup: float) -> int:
    """Return the length of a warm-up that takes the fraction `warmup` of a run, in steps.

    Raises:
        ValueError: `warmup` lies outside [0, 1).
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"{warmup=} is the fraction of all steps spent warming up, in [0, 1)")
    return round(warmup * total_steps)


class WarmupCosine(SequentialLR):
    """Linear warm-up from almost nothing, then half a cosine down to a floor.

    Args:
        optimizer: The optimiser; its ``lr`` is the peak.
        total_steps: Optimiser steps of the whole run, warm-up included.
        warmup: Fraction of all steps spent warming up, in [0, 1): 5 of 300 epochs are 0.0167.
        start: First learning rate over the peak, in (0, 1].
        floor: Last learning rate over the peak, in [0, 1].

    Raises:
        ValueError: `warmup` lies outside [0, 1).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        warmup: float = 0.05,
        start: float = 1e-3,
        floor: float = 0.0,
    ) -> None:
        warm = max(1, warmup_steps(total_steps, warmup))
        peak = max(group["lr"] for group in optimizer.param_groups)
        rise = LinearLR(optimizer, start_factor=start, total_iters=warm)
        fall = CosineAnnealingLR(optimizer, T_max=max(1, total_steps - warm), eta_min=floor * peak)
        super().__init__(optimizer, [rise, fall], milestones=[warm])
