"""Launches the fused window sums: on a GPU, or in Triton's interpreter where that is asked for.

Import it only where it is used: Triton takes long to import, and is not there on every platform.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.qna.triton_kernels import forward_kernel, weights_kernel
from attnlab.operators.qna.triton_tiles import KINDS
from attnlab.operators.qna.triton_tokens import token_kernel
from attnlab.operators.qna.triton_windows import window_kernel
from attnlab.operators.qna.window import Window

_VECTOR = 16  # bytes that a thread loads at once, if they begin at a multiple
_LINE = 64  # channels worth loading together
_TOKENS = (4, 8)  # of a lane, least and most
_SUMS = (1e-20, 1e-7)  # below which terms are lost for 2-byte values, and for others
_BIAS = 20.0  # beyond which a token lost to its exponential could count
_TERMS = 14  # that leave room in the registers for more than the least
_PROGRAMS = 2**12  # some for every multiprocessor; of more rows, each takes neighbours
_SHARES_BYTES = 2**25  # of all programs' shares of the gradient of a table: 32 MiB


class Plan(NamedTuple):
    """How a kernel is launched.

    Attributes:
        programs: Number of programs.
        rows: Rows of tokens in all.
        rows_each: Rows of tokens per program.
        slices: Sets of programs that differ in their heads alone.
        block: BLOCK of the kernel.
    """

    programs: int
    rows: int
    rows_each: int
    slices: int
    block: tuple[int, int, int, int]


def forward(
    scores: Float[Tensor, "batch *grid queries heads"],
    values: Float[Tensor, "batch *grid heads head_dim"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    window: Window,
) -> tuple[Float[Tensor, "batch *out heads head_dim"], Float[Tensor, "batch *out queries heads"]]:
    """Return the window sums, and the logarithms of their sums of exponentials.

    The logarithms are float32, or float64 for float64 values; -inf where a window has no token.
    """
    grid = tuple(scores.shape[1:-2])
    count, kind = window.count(grid), torch.promote_types(values.dtype, torch.float32)
    bias, scale = _tables(bias, scale, kind)
    below, above = torch.empty_like(bias), torch.empty_like(bias)
    scores, values = _flat(scores), _aligned(_flat(values))
    out = values.new_empty(len(values), *count, *values.shape[-2:])
    log_sum = scores.new_empty(len(values), *count, *scores.shape[-2:], dtype=kind)
    plan = plan_rows(out, count, window.size[-1], scores.shape[-2], 1, 2 * _PROGRAMS)
    with torch.cuda.device_of(scores):  # type: ignore[no-untyped-call]
        weights_kernel[(math.ceil(bias.numel() / 256),)](
            bias, scale, below, above, bias.numel(), BLOCK=256, MOST=_BIAS, num_warps=1
        )
        forward_kernel[(plan.programs,)](
            scores, values, bias, scale, below, above, out, log_sum,
            **_constants(scores, values, window, plan),
            LEAST=_SUMS[values.element_size() > 2],
        )  # fmt: skip
    return out, log_sum


def backward(
    grad_out: Float[Tensor, "batch *out heads head_dim"],
    scores: Float[Tensor, "batch *grid queries heads"],
    values: Float[Tensor, "batch *grid heads head_dim"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    log_sum: Float[Tensor, "batch *out queries heads"],
    window: Window,
) -> tuple[
    Float[Tensor, "batch *grid queries heads"],
    Float[Tensor, "batch *grid heads head_dim"],
    Float[Tensor, "offsets queries heads"],
    Float[Tensor, "#offsets queries heads"],
]:
    """Return the gradients of scores, values, bias and scale; of the last two as exact as sums."""
    grid, single = tuple(scores.shape[1:-2]), scale.shape[0] < bias.shape[0]
    size, queries = window.size[-1], scores.shape[-2]
    bias, scale = _tables(bias, scale, log_sum.dtype)
    grad_out, log_sum = grad_out.contiguous(), log_sum.contiguous()
    scores, values = _flat(scores), _aligned(_flat(values))
    products, excess = torch.empty_like(log_sum), torch.empty_like(log_sum)
    grad_scores, grad_values = scores.new_empty(scores.shape), values.new_empty(values.shape)
    most = min(_PROGRAMS, max(1, _SHARES_BYTES // (bias.numel() * bias.element_size())))
    over_windows = plan_rows(grad_out, window.count(grid), size, queries, 1, most)
    over_tokens = plan_rows(values, grid, size, queries, window.stride[-1], most)
    of_scale = bias.new_zeros(over_windows.slices, *bias.shape)
    of_bias = bias.new_zeros(over_tokens.slices, *bias.shape)
    read = (grad_out, scores, values, bias, scale, log_sum, products, excess)
    exact = values.element_size() > 2
    with torch.cuda.device_of(scores):  # type: ignore[no-untyped-call]
        constants = _constants(scores, values, window, over_windows)
        window_kernel[(over_windows.programs,)](*read, of_scale, **constants, EXACT=exact)
        constants = _constants(scores, values, window, over_tokens)
        token_kernel[(over_tokens.programs,)](
            *read, grad_scores, grad_values, of_bias, **constants, EXACT=exact
        )
    grad_scale = of_scale.sum((0, 1)).unsqueeze(0) if single else of_scale.sum(0)
    return grad_scores, grad_values, of_bias.sum(0), grad_scale


def plan_rows(
    tokens: Float[Tensor, "batch *grid heads head_dim"],
    grid: Grid,
    size: int,
    queries: int,
    stride: int,
    most: int,
) -> Plan:
    """Return how to launch over the rows of tokens in at most about `most` slices.

    A program is one warp, so that sums over its lanes need no memory; each thread has a vector of
    channels. The tokens of a lane are a multiple of `stride`, chosen so that the lanes fit the row
    and that windows of `size` entries share what is loaded.
    """
    heads, head_dim = tokens.shape[-2:]
    width, rows = grid[-1], len(tokens) * math.prod(grid[:-1])
    channels, elements = _power_of_two(head_dim), 32 * _VECTOR // tokens.element_size()
    line = min(_LINE, _power_of_two(heads) * channels)
    least, limit = _TOKENS[0], _TOKENS[size * queries <= _TERMS]
    sizes = [each for each in range(least, limit + 1) if each % stride == 0] or [stride]

    def lanes(each: int) -> int:
        return min(_power_of_two(math.ceil(width / each)), max(1, elements // line))

    def cost(each: int) -> float:
        block = each * lanes(each)
        # Loading and converting a token costs about three times what one entry of a window does.
        return math.ceil(width / block) * block * (1 + 3 * (each + size - 1) / (each * size))

    each = min(sizes, key=cost)
    at_once = min(_power_of_two(heads), max(1, elements // (channels * lanes(each))))
    across = math.ceil(width / (each * lanes(each)))
    rows_each = max(1, math.ceil(rows * across / most))
    slices = math.ceil(rows / rows_each) * across
    block = (each, lanes(each), at_once, channels)
    return Plan(slices * math.ceil(heads / at_once), rows, rows_each, slices, block)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _tables(bias: Tensor, scale: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    return bias.to(kind).contiguous(), scale.expand_as(bias).to(kind).contiguous()


def _flat(tensor: Tensor) -> Tensor:
    """Return the tensor, copied unless its tokens lie at equal steps, their channels dense."""
    return tensor if _step(tensor) else tensor.contiguous()


def _aligned(tensor: Tensor) -> Tensor:
    """Return the tensor, copied if its tokens begin badly for vectors and would not in a copy."""
    width = tensor.element_size()
    begin = (tensor.data_ptr() | _step(tensor) * width) % _VECTOR
    if begin and math.prod(tensor.shape[-2:]) * width % _VECTOR == 0:
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor


def _step(tensor: Tensor) -> int:
    """Return the elements from one token to the next; 0 if they differ or channels are apart."""
    try:
        tokens = tensor.view(-1, *tensor.shape[-2:])
    except RuntimeError:
        return 0
    return tokens.stride(0) if tokens[0].is_contiguous() else 0


def _constants(scores: Tensor, values: Tensor, window: Window, plan: Plan) -> dict[str, Any]:
    """Return the arguments that all kernels share; images are videos of one frame."""
    grid = tuple(scores.shape[1:-2])
    ones, none = (1,) * (3 - len(grid)), (0,) * (3 - len(grid))
    before = tuple(sides[0] for sides in window.padding)
    return {
        "rows": plan.rows,
        "rows_each": plan.rows_each,
        "extent": (*ones, *grid),
        "count": (*ones, *window.count(grid)),
        "WINDOW": (
            (*ones, *window.size),
            (*ones, *window.stride),
            (*none, *before),
            (*ones, *window.dilation),
        ),
        "SHAPE": (*scores.shape[-2:], values.shape[-1]),
        "STEPS": (_step(scores), _step(values)),
        "BLOCK": plan.block,
        "KIND": KINDS[torch.promote_types(values.dtype, torch.float32)],
        "num_warps": 1,
        "num_stages": 1,
    }
