"""Attention inside non-overlapping windows (Swin, Liu et al. 2021, without the shift)."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.baselines.grids import strided
from attnlab.operators.grids import ravel, token_coordinates
from attnlab.operators.init import lecun_linear


def window_partition(
    x: Shaped[Tensor, "batch *grid dim"], window: Grid
) -> Shaped[Tensor, "batch windows tokens dim"]:
    """Cut a grid, each axis a multiple of the window's, into windows in row-major order."""
    batch, *grid, dim = x.shape
    axes = len(grid)
    split = [part for size, w in zip(grid, window, strict=True) for part in (size // w, w)]
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    x = x.reshape(batch, *split, dim).permute(order)
    return x.reshape(batch, -1, math.prod(window), dim)


def merged_view(
    x: Shaped[Tensor, "batch windows tokens dim"], window: Grid, grid: Grid
) -> Shaped[Tensor, "batch *split dim"]:
    """Order windows as the grid, each axis still split into (windows, tokens); copies nothing."""
    axes = len(grid)
    counts = [size // w for size, w in zip(grid, window, strict=True)]
    order = [part for axis in range(1, axes + 1) for part in (axis, axes + axis)]
    x = x.view(x.shape[0], *counts, *window, x.shape[-1])
    return x.permute(0, *order, 2 * axes + 1)


def window_merge(
    x: Shaped[Tensor, "batch windows tokens dim"], window: Grid, grid: Grid
) -> Shaped[Tensor, "batch *grid dim"]:
    """Undo `window_partition`."""
    return merged_view(x, window, grid).reshape(x.shape[0], *grid, x.shape[-1])


def bias_rows(
    queries: Int[Tensor, "q axes"], keys: Int[Tensor, "k axes"], window_size: int
) -> Int[Tensor, "q k"]:
    """Return the row of Swin's bias table for every pair: the offset query - key, row-major.

    For two axes that is ``(dy + w - 1) * (2w - 1) + (dx + w - 1)``.
    """
    offsets = queries[:, None] - keys[None] + window_size - 1
    rows = offsets[..., 0]
    for axis in range(1, offsets.shape[-1]):
        rows = rows * (2 * window_size - 1) + offsets[..., axis]
    return rows


def attend_by_head(
    qkv: Float[Tensor, "batch windows tokens thrice"],
    bias: Float[Tensor, "heads tokens tokens"],
    window: Grid,
    grid: Grid,
) -> Float[Tensor, "batch *grid dim"]:
    """Attend by plain matrix products, one head after the other.

    On CPUs fused attention gives no gradient to a bias, and what stands in for it spends a third of
    the time on copies and on looking for rows that are all -inf. Here matrix products read each
    head where it lies among the channels, and its scores are still in the cache when they are used.
    """
    batch, tokens, heads = qkv.shape[0], qkv.shape[2], bias.shape[0]
    width = qkv.shape[-1] // (3 * heads)
    parts = torch.split(qkv.flatten(0, 1), width, dim=-1)
    mixed = []
    for b, q, k, v in zip(bias, parts[::3], parts[1::3], parts[2::3], strict=True):
        added = b.expand(q.shape[0], tokens, tokens)
        scores = torch.baddbmm(added, q, k.mT, alpha=1 / math.sqrt(width))
        out = torch.bmm(scores.softmax(-1), v).view(batch, -1, tokens, width)
        mixed.append(merged_view(out, window, grid))
    return torch.cat(mixed, dim=-1).view(batch, *grid, -1)


def attend_fused(
    qkv: Float[Tensor, "batch windows tokens thrice"],
    bias: Float[Tensor, "heads tokens tokens"],
    window: Grid,
    grid: Grid,
) -> Float[Tensor, "batch *grid dim"]:
    """Attend by fused attention, with all windows of the batch as its batch."""
    batch, _, tokens, _ = qkv.shape
    heads = bias.shape[0]
    q, k, v = qkv.view(-1, tokens, heads, qkv.shape[-1] // heads).transpose(1, 2).chunk(3, dim=-1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.unsqueeze(0))
    return window_merge(
        out.transpose(1, 2).reshape(batch, -1, tokens, heads * q.shape[-1]), window, grid
    )


class WindowAttention(TokenMixer):
    """Multi-head attention inside unshifted windows of ``w`` tokens per axis.

    ``y_n = Σ_{m in the window of n} softmax_m(q_n·k_m / √d + b[p(n) - p(m)]) v_m``, then an output
    projection. Windows start at the grid's first token; the last ones of a grid that is no
    multiple of ``w`` are simply smaller. With a `stride` only every stride-th token is kept.

    The linear maps carry no bias, as in QnA-ViT, whose official weights fit this layout: `qkv`
    gives ``[q|k|v]`` for each head in turn, `bias_table` is ``[(2w - 1)^axes, heads]``.

    Args:
        dim: Channels in.
        heads: Attention heads.
        grid: (H, W) or (T, H, W); only its number of axes sizes the bias table.
        stride: Step between output tokens.
        out_dim: Channels out; `dim` when None.
        window_size: Tokens ``w`` along each side of a window.

    Raises:
        ValueError: `window_size` is below 1, or as `TokenMixer`.
    """

    no_weight_decay: ClassVar[frozenset[str]] = frozenset({"bias_table"})

    def __init__(
        self,
        dim: int,
        heads: int,
        grid: Grid,
        stride: int = 1,
        *,
        out_dim: int | None = None,
        window_size: int = 7,
    ) -> None:
        super().__init__(dim, heads, grid, stride, out_dim=out_dim)
        if window_size < 1:
            raise ValueError(f"{window_size=} must be at least 1")
        self.window_size = window_size
        self.qkv = lecun_linear(dim, 3 * self.out_dim)
        self.proj = lecun_linear(self.out_dim, self.out_dim)
        self.bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** len(grid), heads))

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Attend inside each window, all windows of one size at once."""
        mixed: Tensor = self.proj(strided(self._by_equal_windows(x, 1), self.stride))
        return mixed

    def _by_equal_windows(
        self, x: Float[Tensor, "batch *grid dim"], axis: int
    ) -> Float[Tensor, "batch *grid out_dim"]:
        """Split off what whole windows leave over, from `axis` on: no window needs padding."""
        if axis == x.ndim - 1:
            return self._attend(x)
        rest = x.shape[axis] % self.window_size
        if rest == 0 or rest == x.shape[axis]:
            return self._by_equal_windows(x, axis + 1)
        parts = torch.split(x, [x.shape[axis] - rest, rest], dim=axis)
        return torch.cat([self._by_equal_windows(part, axis + 1) for part in parts], dim=axis)

    def _attend(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *grid out_dim"]:
        """Attend in a grid whose axes are multiples of the window's, or shorter than it."""
        grid = tuple(x.shape[1:-1])
        window = tuple(min(self.window_size, size) for size in grid)
        inside = token_coordinates(window, x.device)
        bias = self.bias_table.t()[:, bias_rows(inside, inside, self.window_size)]
        # A graph of many heads' small products would be slow to compile and no faster; but what
        # torch.onnx makes of fused attention does not fit the view that follows it.
        compiling = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
        fused = x.is_cuda or compiling
        attend = attend_fused if fused else attend_by_head
        return attend(self.qkv(window_partition(x, window)), bias, window, grid)

    def inflate(self, frames: int, kernel_frames: int = 3) -> TokenMixer:
        """Attend in cubes of ``w`` tokens, the biases copied over time (Video Swin, Liu 2022)."""
        inflated = self._copy_on_clips(frames, kernel_frames)
        copies = self.bias_table.detach().repeat(2 * self.window_size - 1, 1)
        inflated.bias_table = nn.Parameter(copies)
        return inflated

    def reference(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Attend over the whole grid, with all pairs but those that share a window masked."""
        grid = tuple(x.shape[1:-1])
        at = token_coordinates(grid, x.device)
        same_window = (at[:, None] // self.window_size == at[None] // self.window_size).all(-1)
        rows = bias_rows(at, at, self.window_size).where(same_window, 0)
        batch = x.shape[0]
        q, k, v = self.qkv(x).view(batch, len(at), self.heads, -1).chunk(3, dim=-1)
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(q.shape[-1])
        scores = scores + self.bias_table[rows].permute(2, 0, 1)
        attention = scores.masked_fill(~same_window, -torch.inf).softmax(-1)
        out = torch.einsum("bhnm,bmhd->bnhd", attention, v).reshape(batch, *grid, -1)
        mixed: Tensor = self.proj(strided(out, self.stride))
        return mixed

    @torch.no_grad()
    def token_weights(
        self, x: Float[Tensor, "batch *grid dim"], queries: Int[Tensor, " queries"]
    ) -> Float[Tensor, "batch heads queries keys"]:
        """Return rows of the softmax, zero outside the window."""
        grid = tuple(x.shape[1:-1])
        at = self.stride * self._out_coordinates(grid, queries)
        keys = token_coordinates(grid, x.device)
        same_window = (at[:, None] // self.window_size == keys // self.window_size).all(-1)
        rows = bias_rows(at, keys, self.window_size).where(same_window, 0)
        qkv = torch.unflatten(self.qkv(x), -1, (self.heads, 3, -1))
        flat = qkv.flatten(1, -4)
        q, k = flat[:, ravel(at, grid), :, 0], flat[..., 1, :]
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(q.shape[-1])
        scores = scores + self.bias_table[rows].permute(2, 0, 1)
        return scores.masked_fill(~same_window, -torch.inf).softmax(-1)

    def learnt_maps(self) -> dict[str, Float[Tensor, "map height width"]]:
        """Return the bias table of each head; on video, one picture per offset in time too."""
        side = 2 * self.window_size - 1
        return {"bias_table": self.bias_table.detach().T.reshape(-1, side, side)}
