"""Memory of one call: what autograd keeps for the backward, and the peak of what is allocated."""

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from attnlab.bench.timing import synchronise


def storage(tensor: Tensor) -> tuple[int, int]:
    """Return address and size in bytes of the memory that a tensor, or a view of it, lies in."""
    memory = tensor.untyped_storage()
    return memory.data_ptr(), memory.nbytes()


def saved_bytes(forward: Callable[[], object], without: Iterable[Tensor] = ()) -> int:
    """Return the bytes that autograd keeps between this forward and its backward.

    Distinct storages are counted once, whole: a view keeps all of what it looks at. Seen is what
    goes through autograd's hooks, so also what a custom function hands to `save_for_backward`,
    but not what it hides in attributes of its context.

    Args:
        forward: Runs with gradients enabled; its result is dropped.
        without: Tensors whose memory does not count: parameters, which exist anyway.
    """
    excluded = {storage(tensor)[0] for tensor in without}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        address, size = storage(tensor)
        if address not in excluded:
            kept[address] = size
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward()  # alive until all is counted: a freed address could be given away again
    del out
    return sum(kept.values())


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Return how much memory a call has allocated at most, above what was there before it.

    On CUDA that is the allocator's own count. On the CPU the profiler reports every allocation
    and release of torch's allocator, also those inside an operator (a copy that it makes to get
    contiguous memory, say), and the peak is that of their running sum: exact and the same in every
    run, where resident memory depends on what the C library happens to keep. What libraries
    allocate by themselves (packed blocks of a matrix product) is not in it.
    """
    synchronise(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        return _peak(json.loads(path.read_text())["traceEvents"])


def _peak(events: Iterable[dict[str, Any]]) -> int:
    """Return the peak of the running sum of the memory events, in the order of their times."""
    changes = [event for event in events if event.get("name") == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: float(event["ts"])):
        held += int(event["args"]["Bytes"])
        peak = max(peak, held)
    return peak


def training_call(module: nn.Module, x: Tensor, to_input: bool = True) -> Callable[[], object]:
    """Return a call of forward and backward: the gradients of every parameter, and of the input."""
    x = x.detach().requires_grad_(to_input)
    wanted = [*([x] if to_input else []), *module.parameters()]
    with torch.no_grad():
        cotangent = torch.randn_like(module(x))

    def call() -> object:
        return torch.autograd.grad(module(x), wanted, cotangent)

    return call


def inference_call(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """Return a call of the forward without autograd."""

    @torch.no_grad()
    def call() -> object:
        return module(x)

    return call
