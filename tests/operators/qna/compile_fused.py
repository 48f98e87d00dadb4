"""Compiles the fused kernels for a Hopper GPU, as they would be launched, where there is none.

A script, because Triton's interpreter, which the tests run in, replaces its compiler.
"""

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from attnlab.operators.qna import fused
from attnlab.operators.qna.window import Window

KERNELS = ("weights_kernel", "forward_kernel", "window_kernel", "token_kernel")


class Hopper:
    """A driver without a GPU."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """A kernel that is compiled instead of launched, and says whether it loads 16 bytes at once."""

    def __init__(self, name: str) -> None:
        self.kernel, self.name = getattr(fused, name), name

    def __getitem__(self, programs):
        def launch(*arguments, **constants) -> None:
            compiled = self.kernel.warmup(*arguments, grid=programs, **constants)
            vectors = "ld.global.v4.b32" in compiled.asm["ptx"] and compiled.asm["cubin"]
            if "WINDOW" in constants:
                print(self.name, arguments[1].dtype, "loads vectors" if vectors else "crawls")

        return launch


def launch(kind: torch.dtype, window: Window, queries: int, heads: int, head_dim: int) -> None:
    grid = (2, 3, 32)[-len(window.size) :]
    joint = torch.randn(2, *grid, queries * heads + heads * head_dim).to(kind)
    scores = joint[..., : queries * heads].unflatten(-1, (queries, heads))
    values = joint[..., queries * heads :].unflatten(-1, (heads, head_dim))
    bias = torch.zeros(window.offsets, queries, heads)
    out, log_sum = fused.forward(scores, values, bias, bias, window)
    fused.backward(out, scores, values, bias, bias, log_sum, window)


driver.set_active(Hopper())
for name in KERNELS:
    setattr(fused, name, Compiled(name))
fused._TOKENS = (2, 2)  # compile quickly
launch(torch.float32, Window.build(2, (1, 2)), queries=2, heads=4, head_dim=8)
launch(torch.float16, Window.build(3, (1, 2, 1)), queries=1, heads=3, head_dim=8)
launch(torch.bfloat16, Window.build(2, (2, 1), 2, dilation=(3, 1)), queries=2, heads=4, head_dim=8)
