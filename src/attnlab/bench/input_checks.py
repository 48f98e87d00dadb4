"""What the input benchmark checks of the ImageNet module: start, stream and memory.

Runs in a process of its own, see `input_child`; data modules are named by class path there too.
"""

import gc
import hashlib
import importlib
import itertools
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

WORKERS = (0, 1, 2, 4)
"""Numbers of loader processes that must give one stream."""


def contestants(settings: dict[str, Any]) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Return what builds the calls."""
    importlib.import_module("attnlab.data.imagenet")  # not part of any time
    return {
        "start": lambda: partial(start, settings),
        "stream": lambda: lambda: [stream(settings, workers) for workers in WORKERS],
        "memory": lambda: partial(memory, settings),
    }


def _module(root: str, **options: Any) -> Any:
    module = importlib.import_module("attnlab.data.imagenet").ImageNet(root, **options)
    module.setup("fit")
    return module


def start(settings: dict[str, Any]) -> dict[str, float]:
    """Return the seconds from the module's construction to its loaders, and its samples."""
    begun = time.perf_counter()
    module = _module(settings["tree"], num_classes=settings["tree_classes"], num_workers=0)
    loader = module.train_dataloader()
    module.val_dataloader()
    taken = time.perf_counter() - begun
    return {"seconds": taken, "samples": len(loader.sampler)}


def digest(batches: Iterable[Any]) -> str:
    """Return a hash over all tensors of batches that are nested tuples and lists."""
    total = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            total.update(part.numpy().tobytes())
        elif isinstance(part, (tuple, list)):
            for each in part:
                add(each)

    for batch in batches:
        add(batch)
    return total.hexdigest()


def stream(settings: dict[str, Any], workers: int) -> str:
    """Return a hash of the first training batches of two epochs, loaded by so many processes."""
    torch.manual_seed(11)
    module = _module(
        settings["images"],
        num_classes=settings["classes"],
        batch_size=settings["batch"],
        num_workers=workers,
    )
    loader = module.train_dataloader()
    hashes = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        hashes.append(digest(itertools.islice(loader, settings["stream_batches"])))
    return " ".join(hashes)


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process, pages shared by n processes counted as 1/n (Linux's PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/{pid}/smaps_rollup has no Pss")


def memory(settings: dict[str, Any]) -> list[int]:
    """Return the memory of this process and its workers after every epoch, in bytes."""
    module = _module(
        settings["demo"],
        num_classes=settings["demo_classes"],
        batch_size=settings["demo_batch"],
        num_workers=2,
    )
    loader = module.train_dataloader()
    after = []
    for epoch in range(settings["epochs"]):
        loader.sampler.set_epoch(epoch)
        for _ in loader:
            pass
        gc.collect()
        workers = loader._iterator._workers
        pids = [os.getpid(), *(worker.pid for worker in workers)]
        after.append(sum(proportional_bytes(pid) for pid in pids))
    return after
