"""Heads: what a task puts behind a backbone. A pool is chosen by its class path."""

from typing import ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.base import Backbone
from attnlab.backbones.tables import resize_table
from attnlab.operators.base import Grid
from attnlab.operators.init import lecun_linear
from attnlab.operators.qna.functional import scale_queries


class PoolFactory(Protocol):
    """Builds what reduces a map to one vector; every pool here is one."""

    def __call__(self, dim: int, grid: Grid) -> nn.Module:
        """Return a module from maps [B, H, W, dim] to [B, dim]; `grid` sizes what it learns."""


class MeanPool(nn.Module):
    """The mean over all tokens: the official head ``gap``.

    Args:
        dim: Channels of the map.
        grid: (H, W) of the map; any other is taken as well.
    """

    def __init__(self, dim: int, grid: Grid) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "batch rows columns dim"]) -> Float[Tensor, "batch dim"]:
        """Return the mean of the tokens."""
        return x.mean(dim=(1, 2))


class QnAPool(nn.Module):
    """One QnA window over the whole map: the official head ``qna`` (``qnav1`` in its code).

    ``Σ_l Σ_n scale_l[n] softmax_n(q_l·W_k x_n + bias_l[n]) W_v x_n`` per head, then an output
    projection; no biases. Bias and scale are tables over the positions n of the map. A map of
    another size reads the same functions of position on its own grid, see `resize_table`; the
    scale is not rescaled, since attention sums to one on any grid.

    Args:
        dim: Channels of the map.
        grid: (H, W) of the map that sizes the tables.
        heads: Attention heads; 64 in the published tiny and small, 48 in base.
        num_queries: Learned queries, whose results are summed.

    Raises:
        ValueError: A size is below 1 or `heads` does not divide `dim`.
    """

    no_weight_decay: ClassVar[frozenset[str]] = frozenset({"query", "scale", "position_bias"})

    def __init__(self, dim: int, grid: Grid, heads: int = 64, num_queries: int = 2) -> None:
        super().__init__()
        if min(heads, num_queries, *grid) < 1 or dim % heads:
            raise ValueError(
                f"{heads=} must divide {dim=}, and with {num_queries=} and {grid=} be at least 1"
            )
        self.heads = heads
        self.query = nn.Parameter(torch.empty(num_queries, dim))
        sigma = (heads / dim) ** 0.5
        nn.init.trunc_normal_(self.query, std=sigma, a=-2 * sigma, b=2 * sigma)
        self.key, self.value, self.proj = (lecun_linear(dim, dim) for _ in range(3))
        columns = num_queries * heads  # query-major, as in QnA
        self.scale = nn.Parameter(nn.init.normal_(torch.empty(*grid, columns), std=0.02))
        self.position_bias = nn.Parameter(torch.zeros(*grid, columns))

    def forward(self, x: Float[Tensor, "batch rows columns dim"]) -> Float[Tensor, "batch dim"]:
        """Return what the queries read from the map."""
        query = scale_queries(self.query, self.heads, normalize=True)
        queries, heads, head_dim = query.shape
        bias, scale = (
            torch.unflatten(resize_table(table, x.shape[1:3]), -1, (queries, heads)).flatten(0, 1)
            for table in (self.position_bias, self.scale)
        )
        # The queries are folded into the key projection, as in QnA: keys never exist.
        key = torch.unflatten(self.key.weight, 0, (heads, head_dim))
        folded = torch.einsum("lhd,hdc->lhc", query, key)
        tokens = x.flatten(1, 2)
        scores = torch.einsum("bnc,lhc->bnlh", tokens, folded)
        attention = scale * torch.softmax(scores + bias, dim=1)
        values = torch.unflatten(self.value(tokens), -1, (heads, head_dim))
        mixed = torch.einsum("bnlh,bnhd->bhd", attention, values)
        out: Tensor = self.proj(mixed.flatten(1))
        return out


class QnAMeanPool(QnAPool):
    """`QnAPool` plus the mean over all tokens: the official head ``qna+mean`` (``qnav2``).

    See `QnAPool` for the arguments.
    """

    def forward(self, x: Float[Tensor, "batch rows columns dim"]) -> Float[Tensor, "batch dim"]:
        """Return what the queries read, added to the mean of the tokens."""
        return super().forward(x) + x.mean(dim=(1, 2))


class PooledClassifier(nn.Module):
    """Logits from a backbone's normalised feature map: pool, then a linear layer with bias.

    Args:
        backbone: Network from images to a map of normalised features.
        num_classes: Number of logits.
        pool: Builds the pool from the map's channels and grid.

    Raises:
        ValueError: `num_classes` is not positive, or as the pool says.
    """

    def __init__(self, backbone: Backbone, num_classes: int, pool: PoolFactory = MeanPool) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"{num_classes=} must be at least 1")
        self.backbone = backbone
        self.pool = pool(backbone.num_features, backbone.grid)
        self.head = lecun_linear(backbone.num_features, num_classes, bias=True)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        logits: Tensor = self.head(self.pool(self.backbone(images)))
        return logits
