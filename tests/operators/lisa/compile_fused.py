"""Compiles the fused kernels for a Hopper GPU, as they would be launched, where there is none.

A script, because Triton's interpreter, which the tests run in, replaces its compiler.
"""

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from attnlab.operators.lisa import fused
from attnlab.operators.lisa.blocked import Inputs

KERNELS = ("mix_kernel", "query_kernel", "key_kernel", "table_kernel")


class Hopper:
    """A driver without a GPU."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """A kernel that is compiled instead of launched, and says whether it uses tensor cores."""

    def __init__(self, name: str) -> None:
        self.kernel, self.name = getattr(fused, name), name

    def __getitem__(self, programs):
        def launch(*arguments, **constants) -> None:
            compiled = self.kernel.warmup(*arguments, grid=programs, **constants)
            code = compiled.asm["ptx"]
            tensor_cores = ("mma.sync" in code or "wgmma" in code) and compiled.asm["cubin"]
            spilled = compiled.metadata.shared > 227 * 2**10
            print(self.name, "crawls" if spilled or not tensor_cores else "on tensor cores")

        return launch


def launch(kind: torch.dtype, grid: tuple[int, ...], stride: int, *, masked: bool) -> None:
    batch, heads, groups, rpes, value_dim, features = 4, 6, 2, 4, 64, 16
    keys = torch.Size(grid).numel()
    queries = torch.Size(-(-n // stride) for n in grid).numel()
    offsets = [2 * n - 1 for n in grid]
    phi_q = torch.randn(batch, heads, queries, features).to(kind)
    phi_k = torch.randn(batch, groups, keys, features).to(kind)
    values = torch.randn(batch, keys, heads, value_dim).to(kind).transpose(1, 2)
    scores, tables = (
        torch.randn(batch, heads, queries, rpes).to(kind),
        torch.randn(heads, rpes, *offsets),
    )
    inputs = Inputs(scores, values, tables, *((phi_q, phi_k) if masked else ()))
    out = fused.forward(inputs, grid, stride)
    fused.backward(out, inputs, grid, stride)
    if not masked:
        encoding = torch.randn(groups, rpes, *offsets)
        scores, encoded = fused.encode(phi_q, phi_k, encoding, grid, stride)
        fused.encode_backward(scores, phi_q, phi_k, encoding, encoded, grid, stride)


driver.set_active(Hopper())
for name in KERNELS:
    setattr(fused, name, Compiled(name))
launch(torch.bfloat16, (14, 14), 1, masked=False)
launch(torch.float16, (2, 7, 7), 2, masked=True)
launch(torch.float32, (7, 5), 1, masked=False)
