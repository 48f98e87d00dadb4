"""QnA that raises the resolution: a set of queries for every place inside a token."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.qna.module import QnA


class UpsamplingQnA(QnA):
    """QnA with ``factor ** axes`` sets of queries per token, laid out as pixels inside the token.

    Arar et al. (CVPR 2022) up-sample by s² learned queries and a pixel shuffle. All sets share
    keys, values and output projection; each has its own queries, scales and position biases.
    Output token ``factor * i + r`` along an axis comes from the window of token i and the set of
    place r.

    Args:
        dim: As in `QnA`.
        heads: As in `QnA`.
        grid: As in `QnA`.
        stride: Must be 1; there for the signature that all operators share.
        factor: Output tokens per input token, along each axis.
        num_queries: Learned queries L of each set.
        attention_scale: As in `QnA`, those that do not depend on the number of queries.
        **options: The other keywords of `QnA`.

    Raises:
        ValueError: `factor` is below 1, `stride` is not 1, `attention_scale` is ``posneg`` or
            ``avg``, or as `QnA`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        grid: Grid,
        stride: int = 1,
        *,
        factor: int = 2,
        num_queries: int = 2,
        attention_scale: str = "normal",
        **options: Any,
    ) -> None:
        if factor < 1 or stride != 1:
            raise ValueError(f"{factor=} must be at least 1 and {stride=} must be 1")
        if attention_scale in ("posneg", "avg"):
            raise ValueError(f"{attention_scale=} must not depend on the number of queries")
        if num_queries < 1:
            raise ValueError(f"{num_queries=} must be at least 1")
        super().__init__(
            dim,
            heads,
            grid,
            num_queries=factor ** len(grid) * num_queries,
            attention_scale=attention_scale,  # type: ignore[arg-type]  # checked by QnA
            **options,
        )
        self.factor = factor

    def out_grid(self, grid: Grid) -> Grid:
        """Return `factor` tokens per window along each axis."""
        return tuple(self.factor * count for count in super().out_grid(grid))

    def inflate(self, frames: int, kernel_frames: int = 3) -> TokenMixer:
        """Refuse: each place inside a token of space and time has queries of its own."""
        raise ValueError(f"{type(self).__name__} cannot be inflated to clips")

    def token_weights(
        self, x: Float[Tensor, "batch *grid dim"], queries: Int[Tensor, " queries"]
    ) -> Float[Tensor, "batch heads queries keys"]:
        """Refuse: the places inside a token share its window, each with a kernel of its own."""
        raise ValueError(f"{type(self).__name__} does not show its kernel over tokens")

    def _sum(
        self,
        scores: Float[Tensor, "batch *grid queries heads"],
        values: Float[Tensor, "batch *grid heads head_dim"],
        bias: Float[Tensor, "offsets queries heads"],
        scale: Float[Tensor, "#offsets queries heads"],
    ) -> Float[Tensor, "batch *out heads head_dim"]:
        sets = (self._sets(tensor, -2) for tensor in (scores, bias, scale))
        one_set = super()._sum
        return self._shuffle([one_set(s, values, b, c) for s, b, c in zip(*sets, strict=True)])

    def _sum_by_definition(
        self,
        keys: Float[Tensor, "batch *grid heads head_dim"],
        values: Float[Tensor, "batch *grid heads head_dim"],
        query: Float[Tensor, "#batch queries heads head_dim"],
        bias: Float[Tensor, "offsets queries heads"],
        scale: Float[Tensor, "#offsets queries heads"],
        ignored: Bool[Tensor, "batch *grid"] | None,
    ) -> Float[Tensor, "batch *out heads head_dim"]:
        terms = zip(self._sets(query, 1), self._sets(bias, 1), self._sets(scale, 1), strict=True)
        one_set = super()._sum_by_definition
        return self._shuffle([one_set(keys, values, *term, ignored) for term in terms])

    def _sets(self, tensor: Tensor, axis: int) -> Sequence[Tensor]:
        """Return the part of each set of queries."""
        return tensor.chunk(self.factor ** len(self.grid), axis)

    def _shuffle(
        self, sets: list[Float[Tensor, "batch *grid heads head_dim"]]
    ) -> Float[Tensor, "batch *out heads head_dim"]:
        """Interleave the sets, row-major over the places inside a token."""
        rank = len(self.grid)
        stacked = torch.unflatten(
            torch.stack([part.mT for part in sets], 1), 1, [self.factor] * rank
        )
        token_then_place = [axis for i in range(1, 1 + rank) for axis in (rank + i, i)]
        grid = [self.factor * size for size in stacked.shape[1 + rank : -2]]
        shuffled = stacked.permute(0, *token_then_place, -2, -1)
        return shuffled.reshape(len(stacked), *grid, *stacked.shape[-2:]).mT
