"""The states of all random generators of a process."""

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Generators(NamedTuple):
    """A state of every global generator.

    Attributes:
        cpu: torch's, of the CPU.
        cuda: torch's, of this process's GPU, if it has one.
        python: `random`'s.
        numpy: Of NumPy's old functions.
    """

    cpu: Tensor
    cuda: Tensor | None
    python: tuple[Any, ...]
    numpy: Any

    @classmethod
    def now(cls, device: torch.device) -> "Generators":
        """Return the present states; those of the GPU if `device` is one."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), cuda, random.getstate(), np.random.get_state())

    def restore(self, device: torch.device) -> None:
        """Put all generators into these states."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.cuda, device)
        random.setstate(self.python)
        np.random.set_state(self.numpy)

    def plain(self) -> list[Any]:
        """Return the states in types that every reader of checkpoints takes."""
        version, words, gauss = self.python
        name, keys, *rest = self.numpy
        numpy = [name, torch.from_numpy(keys.astype(np.int64)), *rest]
        return [self.cpu, self.cuda, [version, torch.tensor(words), gauss], numpy]

    @classmethod
    def of_plain(cls, plain: list[Any]) -> "Generators":
        """Return the states that `plain` gave."""
        cpu, cuda, (version, words, gauss), (name, keys, *rest) = plain
        python = (version, tuple(words.tolist()), gauss)
        return cls(cpu, cuda, python, (name, keys.numpy().astype(np.uint32), *rest))
