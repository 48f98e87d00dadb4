"""LARS and LinearWarmupCosineAnnealingLR of lightning-bolts 0.7.0, for use in YAML.

lightning-bolts (2023) pins pytorch-lightning < 2 and torchvision, and its package cannot be
imported beside Lightning 2; the two files used here need nothing but torch. So the package is
installed without its dependencies and only these files are executed.
"""

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any
from unittest import mock

from torch.optim import Optimizer

from attnlab.optim.schedules import warmup_steps


def _load(file: str) -> ModuleType:
    """Execute one file of lightning-bolts without importing its package."""
    try:
        path = importlib.metadata.distribution("lightning-bolts").locate_file(f"pl_bolts/{file}")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(
            "lightning-bolts is missing: pip install --no-deps lightning-bolts==0.7.0"
        ) from None
    spec = importlib.util.spec_from_file_location(f"attnlab._bolts_{file[:-3]}", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # The files only take a decorator from their package, one that warns about API stability.
    stability = ModuleType("pl_bolts.utils.stability")
    stability.under_review = lambda: lambda decorated: decorated  # type: ignore[attr-defined]
    package = {name: ModuleType(name) for name in ("pl_bolts", "pl_bolts.utils")} | {
        stability.__name__: stability
    }
    with mock.patch.dict(sys.modules, package):
        spec.loader.exec_module(module)
    return module


_lars = _load("optimizers/lars.py")
_lr_scheduler = _load("optimizers/lr_scheduler.py")


class LARS(_lars.LARS):  # type: ignore[misc, name-defined]
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888).

    Parameters without weight decay are also spared the layer-wise scaling.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate.
        momentum: Momentum factor.
        weight_decay: L2 penalty.
        nesterov: Use Nesterov momentum.
        trust_coefficient: Coefficient of the layer-wise rate, Eq. 6.

    Raises:
        ValueError: A negative learning rate, momentum or weight decay.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        nesterov: bool = False,
        trust_coefficient: float = 1e-3,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=nesterov,
            trust_coefficient=trust_coefficient,
        )


class LinearWarmupCosineAnnealingLR(
    _lr_scheduler.LinearWarmupCosineAnnealingLR  # type: ignore[misc, name-defined]
):
    """Linear warm-up, then cosine annealing, stepped per optimiser step.

    Equal to torch's ``SequentialLR([LinearLR(total_iters=warm - 1), CosineAnnealingLR(T_max=total
    - warm)])`` from the warm-up's second step on.

    Args:
        optimizer: The optimiser; its ``lr`` is the peak.
        total_steps: Optimiser steps of the whole run, warm-up included.
        warmup: Fraction of all steps spent warming up, in [0, 1).
        warmup_start_lr: First learning rate.
        eta_min: Last learning rate.

    Raises:
        ValueError: `warmup` lies outside [0, 1).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        warmup: float = 0.05,
        warmup_start_lr: float = 0.0,
        eta_min: float = 0.0,
    ) -> None:
        warm = max(2, warmup_steps(total_steps, warmup))  # its formula divides by warm - 1
        super().__init__(optimizer, warm, total_steps, warmup_start_lr, eta_min)
