"""What passes through a network's layers and token mixers in one forward pass."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.blocks import Block
from attnlab.backbones.temporal import DividedBlock
from attnlab.operators.base import TokenMixer

LAYERS = (Block, DividedBlock)


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks by their short names, in order; the mixers where there is no block.

    Raises:
        ValueError: The network has no token mixer.
    """
    found = _outermost(network, LAYERS) or _outermost(network, (TokenMixer,))
    if not found:
        raise ValueError(f"{type(network).__name__} has no token mixer that could be analysed")
    return found


def mixers(network: nn.Module) -> dict[str, TokenMixer]:
    """Return the token mixers of the layers, those that hold no other: what works per frame."""
    found = {}
    for layer, block in layers(network).items():
        for name, module in block.named_modules():
            inner = any(isinstance(each, TokenMixer) for each in list(module.modules())[1:])
            if isinstance(module, TokenMixer) and not inner:
                path = [part for part in name.split(".") if part and part not in ("mixer", "block")]
                found[".".join([layer, *path])] = module
    return found


def short(name: str) -> str:
    """Return a module's name without what all names begin with."""
    for beginning in ("classifier.", "backbone.", "backbone."):  # of clips, round one of images
        name = name.removeprefix(beginning)
    return name


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, without gradients, and back as each one was."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def observing(
    outputs: Mapping[str, nn.Module],
    inputs: Mapping[str, nn.Module],
    take: Callable[[str, Tensor], None],
) -> Iterator[None]:
    """Hand over, while active, what modules return and what modules are given.

    Args:
        outputs: Modules whose results are handed over, by the name that goes with them.
        inputs: Modules whose first argument is.
        take: Called with a name and a tensor.
    """

    def returned(name: str) -> Callable[..., None]:
        return lambda module, args, result: take(name, result)

    def given(name: str) -> Callable[..., None]:
        return lambda module, args: take(name, args[0])

    hooks = [module.register_forward_hook(returned(name)) for name, module in outputs.items()]
    hooks += [module.register_forward_pre_hook(given(name)) for name, module in inputs.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def forward(network: nn.Module, samples: Float[Tensor, "batch *shape"]) -> None:
    """Run a task as its validation does, or any other network, and forget the result.

    The samples may be on another device: Lightning takes a network, but not what was kept of its
    batches, back to the CPU when a fit or a validation has ended.
    """
    device = next(network.parameters()).device
    getattr(network, "evaluated", network)(samples.to(device))


class HeldOut(L.Callback):
    """Keeps the first samples of the latest validation or test, as the network gets them.

    Args:
        samples: How many to keep at most.

    Attributes:
        batches: The samples, batch by batch, on the CPU so that they take no memory of the device.
    """

    def __init__(self, samples: int) -> None:
        if samples < 1:
            raise ValueError(f"{samples=} must be at least 1")
        self.samples = samples
        self.batches: list[Tensor] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the samples of the last time."""
        self.batches = []

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what is still missing."""
        missing = self.samples - sum(map(len, self.batches))
        if missing > 0:
            self.batches.append(batch[0][:missing].detach().to("cpu", copy=True))

    on_test_start, on_test_batch_start = on_validation_start, on_validation_batch_start


def _outermost(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, kinds) and not inside:
            found[name] = module
    return {short(name): module for name, module in found.items()}
