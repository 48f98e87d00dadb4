"""Multi-head self-attention over the whole grid (Vaswani et al. 2017; ViT)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.baselines.grids import strided
from attnlab.operators.init import lecun_linear


class SelfAttention(TokenMixer):
    """Global attention: ``y_n = Σ_m softmax_m(q_n·k_m / √d) v_m``, then an output projection.

    Queries come from the tokens at ``stride * i``, keys and values from all. The linear maps carry
    no bias, unlike ViT's: none of the operators compared here has one, so that a difference
    between two of them is not a difference in biases (the key bias cancels in the softmax anyway).
    The operator knows nothing about positions; the backbone may add some.

    Args:
        dim: Channels in.
        heads: Attention heads.
        grid: (H, W) or (T, H, W); sizes nothing here.
        stride: Step between output tokens.
        out_dim: Channels out, and of queries, keys and values together; `dim` when None.

    Raises:
        ValueError: As `TokenMixer`.
    """

    def __init__(
        self, dim: int, heads: int, grid: Grid, stride: int = 1, *, out_dim: int | None = None
    ) -> None:
        super().__init__(dim, heads, grid, stride, out_dim=out_dim)
        self.query = lecun_linear(dim, self.out_dim)
        self.key_value = lecun_linear(dim, 2 * self.out_dim)
        self.proj = lecun_linear(self.out_dim, self.out_dim)

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Attend with the fused kernel, whose memory is linear in the number of tokens."""
        queries = strided(x, self.stride)
        q = self.query(queries).view(x.shape[0], -1, self.heads, self.out_dim // self.heads)
        kv = self.key_value(x).view(x.shape[0], -1, 2, self.heads, q.shape[-1])
        k, v = kv.unbind(2)
        out = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
        mixed: Tensor = self.proj(out.transpose(1, 2).reshape(*queries.shape[:-1], self.out_dim))
        return mixed

    def inflate(self, frames: int, kernel_frames: int = 3) -> TokenMixer:
        """Attend over the whole clip; it knows as little about time as about positions."""
        return self._copy_on_clips(frames, kernel_frames)

    def reference(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Attend head by head with the softmax written out."""
        queries = strided(x, self.stride)
        keys, values = self.key_value(x).flatten(1, -2).chunk(2, dim=-1)
        width = self.out_dim // self.heads
        heads = []
        for q, k, v in zip(
            self.query(queries).flatten(1, -2).split(width, dim=-1),
            keys.split(width, dim=-1),
            values.split(width, dim=-1),
            strict=True,
        ):
            weights = (q @ k.mT / math.sqrt(width)).exp()
            heads.append(weights @ v / weights.sum(-1, keepdim=True))
        mixed: Tensor = self.proj(torch.cat(heads, dim=-1).view(*queries.shape[:-1], self.out_dim))
        return mixed

    @torch.no_grad()
    def token_weights(
        self, x: Float[Tensor, "batch *grid dim"], queries: Int[Tensor, " queries"]
    ) -> Float[Tensor, "batch heads queries keys"]:
        """Return rows of the softmax."""
        self._check_queries(tuple(x.shape[1:-1]), queries)
        chosen = strided(x, self.stride).flatten(1, -2)[:, queries]
        keys, _ = self.key_value(x).flatten(1, -2).chunk(2, dim=-1)
        q, k = (
            torch.unflatten(tokens, -1, (self.heads, -1)) for tokens in (self.query(chosen), keys)
        )
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(q.shape[-1])
        return scores.softmax(-1)
