"""Local attention as others compute it: one layer, five ways to gather the window.

All but NATTEN compute the same function, so one state dict fits all of them and tests compare
them. None has position biases, which costs them nothing and would cost them time; heads are as
wide as their kernels like them, 32 channels.
"""

import importlib
import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

HEAD_DIM = 32

Heads = Float[Tensor, "batch rows columns heads head_dim"]


class LocalAttention(nn.Module):
    """Attention of every token to the k x k tokens round it, fewer at the border.

    ``y_n = sum_m softmax_m(q_n.k_m / sqrt(d)) v_m`` over the m at most ``(k - 1) / 2`` rows and
    columns from n; then an output projection. No linear map has a bias.

    Args:
        dim: Channels, a multiple of 32 or less than that.
        grid: Rows and columns of tokens.
        kernel_size: Odd side k of the window.

    Raises:
        ValueError: `dim` is no multiple of the heads' width, or `kernel_size` is even.
    """

    limits: ClassVar[str] = ""
    """Where it does not run, for the reader of a table."""

    def __init__(self, dim: int, grid: tuple[int, int], kernel_size: int) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"{kernel_size=} must be odd and at least 1")
        width = min(dim, HEAD_DIM)
        if dim < 1 or dim % width:
            raise ValueError(f"{dim=} must be at least 1 and a multiple of {HEAD_DIM} above it")
        self.heads = dim // width
        self.grid = grid
        self.kernel_size = kernel_size
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)

    def forward(
        self, x: Float[Tensor, "batch rows columns dim"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        """Project, attend, project."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        out: Tensor = self.proj(self.attend(q, k, v).flatten(-2))
        return out

    def attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        """Attend in the window of every token."""
        raise NotImplementedError


def locality(grid: tuple[int, int], kernel_size: int, device: torch.device) -> Tensor:
    """Return which tokens are in the window of which: ``[tokens, tokens]``, True inside."""
    rows, columns = (torch.arange(size, device=device) for size in grid)
    reach = kernel_size // 2
    near_row = (rows[:, None] - rows).abs() <= reach
    near_column = (columns[:, None] - columns).abs() <= reach
    near = near_row[:, None, :, None] & near_column[None, :, None, :]
    return near.flatten(2).flatten(0, 1)


class UnfoldedAttention(LocalAttention):
    """SASA (Ramachandran et al. 2019) as commonly written: `F.unfold` copies every window."""

    outside: Bool[Tensor, "tokens 1 offsets"]

    def __init__(self, dim: int, grid: tuple[int, int], kernel_size: int) -> None:
        super().__init__(dim, grid, kernel_size)
        inside = F.unfold(torch.ones(1, 1, *grid), kernel_size, padding=kernel_size // 2)
        self.register_buffer("outside", inside[0].T.unsqueeze(1) == 0, persistent=False)

    def _gather(self, x: Heads) -> Float[Tensor, "batch_heads tokens head_dim offsets"]:
        batch, *_, heads, width = x.shape
        images = x.flatten(3).movedim(-1, 1)
        unfolded = F.unfold(images, self.kernel_size, padding=self.kernel_size // 2)
        return unfolded.view(batch * heads, width, self.kernel_size**2, -1).permute(0, 3, 1, 2)

    def attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        """Multiply every query with its own matrix of keys, as a batch of small products."""
        batch, rows, columns, heads, width = q.shape
        queries = q.flatten(1, 2).transpose(1, 2).reshape(batch * heads, -1, 1, width)
        scores = queries @ self._gather(k) / math.sqrt(width)
        weights = scores.masked_fill(self.outside, -math.inf).softmax(-1)
        out = weights @ self._gather(v).mT
        return out.view(batch, heads, rows, columns, width).permute(0, 2, 3, 1, 4)


class SlidingAttention(LocalAttention):
    """The same with windows as strided views, copied once: the fastest plain form found."""

    outside: Bool[Tensor, "1 rows columns 1 1 offsets"]

    def __init__(self, dim: int, grid: tuple[int, int], kernel_size: int) -> None:
        super().__init__(dim, grid, kernel_size)
        inside = self._gather(torch.ones(1, *grid, 1, 1))
        self.register_buffer("outside", inside == 0, persistent=False)

    def _gather(self, x: Heads) -> Float[Tensor, "batch rows columns heads head_dim offsets"]:
        padded = F.pad(x, [0, 0, 0, 0, *[self.kernel_size // 2] * 4])
        return padded.unfold(1, self.kernel_size, 1).unfold(2, self.kernel_size, 1).flatten(-2)

    def attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        """Multiply every query with its own matrix of keys, as a batch of small products."""
        scores = q.unsqueeze(-2) @ self._gather(k) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(self.outside, -math.inf).softmax(-1)
        return (weights @ self._gather(v).mT).squeeze(-2)


class MaskedAttention(LocalAttention):
    """Torch's fused attention over the whole map, with everything outside the window masked."""

    inside: Bool[Tensor, "tokens tokens"]

    def __init__(self, dim: int, grid: tuple[int, int], kernel_size: int) -> None:
        super().__init__(dim, grid, kernel_size)
        near = locality(grid, kernel_size, torch.device("cpu"))
        self.register_buffer("inside", near, persistent=False)

    def attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        """Attend densely."""
        q, k, v = (part.flatten(1, 2).transpose(1, 2) for part in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.inside)
        return torch.unflatten(out.transpose(1, 2), 1, self.grid)


class FlexAttention(LocalAttention):
    """Torch's FlexAttention, compiled, with a block mask that skips what no window touches."""

    limits: ClassVar[str] = "forward only on CPUs"

    def __init__(self, dim: int, grid: tuple[int, int], kernel_size: int) -> None:
        super().__init__(dim, grid, kernel_size)
        from torch.nn.attention.flex_attention import flex_attention

        torch.compiler.reset()  # else the ninth map or window would run uncompiled
        self.flex: Any = torch.compile(flex_attention, dynamic=False)
        self.blocks: Any = None

    def _block_mask(self, device: torch.device) -> Any:
        from torch.nn.attention.flex_attention import create_block_mask

        rows, columns = self.grid
        reach = self.kernel_size // 2

        def near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            in_rows = (query // columns - key // columns).abs() <= reach
            return in_rows & ((query % columns - key % columns).abs() <= reach)

        tokens = rows * columns
        return create_block_mask(near, None, None, tokens, tokens, device=device.type)

    def attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        """Attend in blocks of tokens."""
        if self.blocks is None:
            self.blocks = self._block_mask(q.device)
        flat = (part.flatten(1, 2).transpose(1, 2) for part in (q, k, v))
        out: Tensor = self.flex(*flat, block_mask=self.blocks)
        return torch.unflatten(out.transpose(1, 2), 1, self.grid)


class Natten(LocalAttention):
    """NATTEN's neighbourhood attention, whose windows move inwards at the border.

    Every token so has k x k neighbours; away from the border it is the same function.
    """

    limits: ClassVar[str] = "its own environment; forward only on CPUs"

    def __init__(self, dim: int, grid: tuple[int, int], kernel_size: int) -> None:
        super().__init__(dim, grid, kernel_size)
        if kernel_size > min(grid):
            raise ValueError(f"{kernel_size=} must not exceed the map, {grid=}")
        natten = importlib.import_module("natten")
        if torch.cuda.is_available():  # its FlexAttention form is slow there unless compiled
            torch.compiler.reset()
            natten.allow_flex_compile()
            natten.allow_flex_compile_backprop()
        self.na2d: Any = natten.na2d

    def attend(self, q: Heads, k: Heads, v: Heads) -> Heads:
        """Attend by the backend that NATTEN chooses."""
        parts = (part.contiguous() for part in (q, k, v))
        out: Tensor = self.na2d(*parts, kernel_size=self.kernel_size, torch_compile=q.is_cuda)
        return out
