"""What the input benchmark checks of the ImageNet module: start, stream and memory.

Runs in a process of its own, see `input_child`; data modules are named by class path there too.
"""

import gc
import hashlib
import importlib
import itertools
import os
import tempfile
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


def _module(root: str, num_classes: int, **options: Any) -> Any:
    """Return the data module, set up for training with RandAugment."""
    module = importlib.import_module("attnlab.data.imagenet")
    train = importlib.import_module("attnlab.data.transforms.train")
    augmented = train.TrainTransform(auto_augment="rand-m9-mstd0.5-inc1")
    data = module.ImageNet(root, num_classes, augmented, **options)
    data.setup("fit")
    return data


def start(settings: dict[str, Any]) -> dict[str, float]:
    """Return the seconds from the module's construction to its loaders, and its samples."""
    begun = time.perf_counter()
    module = _module(settings["tree"], settings["tree_classes"], num_workers=0)
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
    options = {"batch_size": settings["batch"], "num_workers": workers}
    module = _module(settings["images"], settings["classes"], **options)
    loader = module.train_dataloader()
    hashes = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        hashes.append(digest(itertools.islice(loader, settings["stream_batches"])))
    return " ".join(hashes)


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process, pages shared by n processes counted as 1/n (Linux's PSS).

    Files mapped into memory, such as libraries, are left out: how much of them is there depends on
    what else runs.
    """
    parts = dict.fromkeys(("Pss_Anon", "Pss_Shmem"), 0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in parts:
            parts[name] = 1024 * int(rest.split()[0])
    return sum(parts.values())


def memory(settings: dict[str, Any]) -> list[int]:
    """Return the memory of this process and its workers after every epoch, in bytes.

    The images are those of ``attnlab demo-data imagenet``, loaded by two workers that live on.
    """
    with tempfile.TemporaryDirectory() as root:
        importlib.import_module("attnlab.data.demo.imagenet").write(Path(root))
        module = _module(root, settings["classes"], batch_size=32, num_workers=2)
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
