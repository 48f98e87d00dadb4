"""Compiles QnA's fused kernels for a GPU, and says whether they load 16 bytes at once."""

import torch

from attnlab.operators.qna import fused
from attnlab.operators.qna.window import Window
from tests.operators.compiled_kernels import compile_launches

KERNELS = ("weights_kernel", "forward_kernel", "window_kernel", "token_kernel")


def judge(compiled, arguments, constants) -> str | None:
    vectors = "ld.global.v4.b32" in compiled.asm["ptx"] and compiled.asm["cubin"]
    if "WINDOW" not in constants:
        return None
    return f"{arguments[1].dtype} {'loads vectors' if vectors else 'crawls'}"


def launch(kind: torch.dtype, window: Window, queries: int, heads: int, head_dim: int) -> None:
    grid = (2, 3, 32)[-len(window.size) :]
    joint = torch.randn(2, *grid, queries * heads + heads * head_dim).to(kind)
    scores = joint[..., : queries * heads].unflatten(-1, (queries, heads))
    values = joint[..., queries * heads :].unflatten(-1, (heads, head_dim))
    bias = torch.zeros(window.offsets, queries, heads)
    out, log_sum = fused.forward(scores, values, bias, bias, window)
    fused.backward(out, scores, values, bias, bias, log_sum, window)


compile_launches(fused, KERNELS, judge)
fused._TOKENS = (2, 2)  # compile quickly
launch(torch.float32, Window.build(2, (1, 2)), queries=2, heads=4, head_dim=8)
launch(torch.float16, Window.build(3, (1, 2, 1)), queries=1, heads=3, head_dim=8)
launch(torch.bfloat16, Window.build(2, (2, 1), 2, dilation=(3, 1)), queries=2, heads=4, head_dim=8)
