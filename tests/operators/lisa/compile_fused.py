"""Compiles LiSA's fused kernels for a GPU, and says whether they use its tensor cores."""

import torch

from attnlab.operators.lisa import fused
from attnlab.operators.lisa.blocked import Inputs
from tests.operators.compiled_kernels import compile_launches

KERNELS = ("mix_kernel", "query_kernel", "key_kernel", "table_kernel")


def judge(compiled, arguments, constants) -> str:
    code = compiled.asm["ptx"]
    tensor_cores = ("mma.sync" in code or "wgmma" in code) and compiled.asm["cubin"]
    spilled = compiled.metadata.shared > 227 * 2**10
    return "crawls" if spilled or not tensor_cores else "on tensor cores"


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


compile_launches(fused, KERNELS, judge)
launch(torch.bfloat16, (14, 14), 1, masked=False)
launch(torch.float16, (2, 7, 7), 2, masked=True)
launch(torch.float32, (7, 5), 1, masked=False)
