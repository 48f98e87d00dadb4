"""Attention inside non-overlapping windows (Swin, Liu et al. 2021, without the shift)."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.baselines.grids import strided, token_coordinates
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


def window_merge(
    x: Float[Tensor, "batch windows tokens dim"], window: Grid, grid: Grid
) -> Float[Tensor, "batch *grid dim"]:
    """Undo `window_partition`."""
    axes = len(grid)
    counts = [size // w for size, w in zip(grid, window, strict=True)]
    order = [
        0,
        *(part for axis in range(1, axes + 1) for part in (axis, axes + axis)),
        2 * axes + 1,
    ]
    x = x.reshape(x.shape[0], *counts, *window, x.shape[-1]).permute(order)
    return x.reshape(x.shape[0], *grid, x.shape[-1])


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


def pad_end(x: Shaped[Tensor, "batch *grid dim"], padding: Sequence[int]) -> Tensor:
    """Pad the end of every grid axis by that many zeros."""
    return F.pad(x, (0, 0, *(side for pad in reversed(padding) for side in (0, pad))))


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
        """Attend inside each window with fused attention; missing keys are masked."""
        grid = tuple(x.shape[1:-1])
        # A window never needs to be larger than the grid: the rest would be masked padding.
        window = tuple(min(self.window_size, size) for size in grid)
        padding = [-size % w for size, w in zip(grid, window, strict=True)]
        padded = tuple(size + pad for size, pad in zip(grid, padding, strict=True))
        windows = window_partition(pad_end(x, padding), window)
        batch, count, tokens, _ = windows.shape
        # Windows join the heads' axis, so that one mask per window broadcasts over the batch.
        qkv = self.qkv(windows).view(batch, count, tokens, self.heads, -1).transpose(2, 3)
        q, k, v = qkv.flatten(1, 2).chunk(3, dim=-1)
        mask = self._mask(grid, window, padding)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out = out.view(batch, count, self.heads, tokens, -1).transpose(2, 3).flatten(3)
        out = window_merge(out, window, padded)[:, *(slice(0, n, self.stride) for n in grid)]
        mixed: Tensor = self.proj(out)
        return mixed

    def _mask(
        self, grid: Grid, window: Grid, padding: Sequence[int]
    ) -> Float[Tensor, "windows_heads tokens tokens"]:
        """Return what is added to the scores of every window: the bias, -inf on padding."""
        device = self.bias_table.device
        inside = token_coordinates(window, device)
        bias = self.bias_table[bias_rows(inside, inside, self.window_size)].permute(2, 0, 1)
        real = pad_end(torch.ones(1, *grid, 1, dtype=torch.bool, device=device), padding)
        keys = window_partition(real, window)[0, :, None, None, :, 0]
        return torch.where(keys, bias, -torch.inf).flatten(0, 1)

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

    def learnt_maps(self) -> dict[str, Float[Tensor, "map height width"]]:
        """Return the bias table of each head; on video, one picture per offset in time too."""
        side = 2 * self.window_size - 1
        return {"bias_table": self.bias_table.detach().T.reshape(-1, side, side)}
