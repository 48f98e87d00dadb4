"""Cross-covariance attention: channels attend to channels (XCiT, El-Nouby et al., NeurIPS 2021)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.baselines.grids import strided
from attnlab.operators.init import lecun_linear


class CrossCovariance(TokenMixer):
    """Attention between the d channels of a head, linear in the number of tokens.

    With the tokens of a head as matrices Q, K, V ``[N, d]`` whose columns are its channels, and
    each column of Q and K divided by its length (section 3.2 of the paper)::

        A[i, j] = softmax_j(τ Q̂[:, i] · K̂[:, j])
        y_n[i]  = Σ_j A[i, j] v_n[j]

    and then an output projection. τ is learnt per head and multiplies, as in the authors' code; it
    starts at 1. Tokens meet only in the sums over n of A, which forget where they are: XCiT adds
    convolutions for that, which are no part of this operator. No linear map carries a bias.

    The channels' attention A is always of all tokens: a query at every stride-th token would be a
    sample of the same sum and nothing else. So `stride` chooses which tokens' values A is applied
    to.

    Args:
        dim: Channels in.
        heads: Groups of channels that attend among themselves.
        grid: (H, W) or (T, H, W); sizes nothing here.
        stride: Step between output tokens.
        out_dim: Channels out, and of queries, keys and values; `dim` when None.

    Raises:
        ValueError: As `TokenMixer`.
    """

    no_weight_decay: ClassVar[frozenset[str]] = frozenset({"temperature"})

    def __init__(
        self, dim: int, heads: int, grid: Grid, stride: int = 1, *, out_dim: int | None = None
    ) -> None:
        super().__init__(dim, heads, grid, stride, out_dim=out_dim)
        self.query_key = lecun_linear(dim, 2 * self.out_dim)
        self.value = lecun_linear(dim, self.out_dim)
        self.proj = lecun_linear(self.out_dim, self.out_dim)
        self.temperature = nn.Parameter(torch.ones(heads))

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Attend with one small matrix per head; O(N d) per channel."""
        values = strided(x, self.stride)
        qk = self.query_key(x).view(x.shape[0], -1, 2, self.heads, self.out_dim // self.heads)
        q, k = F.normalize(qk, dim=1).permute(2, 0, 3, 4, 1)
        scores = self.temperature[:, None, None] * (q @ k.mT)
        v = self.value(values).view(x.shape[0], -1, self.heads, q.shape[2]).transpose(1, 2)
        out = (v @ scores.softmax(-1).mT).transpose(1, 2)
        mixed: Tensor = self.proj(out.reshape(*values.shape[:-1], self.out_dim))
        return mixed

    def inflate(self, frames: int, kernel_frames: int = 3) -> TokenMixer:
        """Sum over the whole clip; equal frames cancel in the normalised products."""
        return self._copy_on_clips(frames, kernel_frames)

    def reference(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Attend channel by channel with lengths and softmax written out."""
        queries, keys = self.query_key(x).flatten(1, -2).chunk(2, dim=-1)
        values = self.value(x)
        width = self.out_dim // self.heads
        channels = []
        for channel in range(self.out_dim):
            head = channel // width
            own = slice(head * width, (head + 1) * width)
            q, k = queries[..., channel, None], keys[..., own]
            lengths = q.square().sum(1).sqrt() * k.square().sum(1).sqrt()
            weights = (self.temperature[head] * (q * k).sum(1) / lengths).exp()
            weights = (weights / weights.sum(-1, keepdim=True)).unflatten(
                0, (-1, *[1] * (x.ndim - 2))
            )
            channels.append((values[..., own] * weights).sum(-1))
        mixed: Tensor = self.proj(strided(torch.stack(channels, dim=-1), self.stride))
        return mixed
