"""QnA whose queries also depend on a vector of each sample."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnlab.operators.base import Grid
from attnlab.operators.qna.functional import scale_queries
from attnlab.operators.qna.module import QnA


class ConditionedQnA(QnA):
    """QnA with the queries ``q + W c`` for a vector c per sample: a class, a time step, a text.

    W starts at 0, where the layer is `QnA`. Sums over windows cost the same; scores are one matrix
    product per sample.

    Args:
        dim: As in `QnA`.
        heads: As in `QnA`.
        grid: As in `QnA`.
        stride: As in `QnA`.
        condition_dim: Length of c.
        **options: The keywords of `QnA`; `position` is ``relative`` or ``none``, since a bias that
            depends on the queries would differ between samples.

    Raises:
        ValueError: `condition_dim` is below 1, `position` depends on the queries, or as `QnA`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        grid: Grid,
        stride: int = 1,
        *,
        condition_dim: int,
        **options: Any,
    ) -> None:
        super().__init__(dim, heads, grid, stride, **options)
        if condition_dim < 1:
            raise ValueError(f"{condition_dim=} must be at least 1")
        if self.position not in ("relative", "none"):
            raise ValueError(
                f"position={self.position!r} must be relative or none with a condition"
            )
        self.condition = nn.Parameter(torch.zeros(self.query.numel(), condition_dim))

    def forward(
        self,
        x: Float[Tensor, "batch *grid dim"],
        key_padding_mask: Bool[Tensor, "batch *grid"] | None = None,
        *,
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> Float[Tensor, "batch *out out_dim"]:
        """Sum the windows as `QnA.forward`, with the learned queries alone without a condition."""
        return self._attend(x, self._queries(condition), key_padding_mask)

    def reference(
        self,
        x: Float[Tensor, "batch *grid dim"],
        key_padding_mask: Bool[Tensor, "batch *grid"] | None = None,
        *,
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> Float[Tensor, "batch *out out_dim"]:
        """Gather and mask every window, as `QnA.reference`."""
        return self._attend_by_definition(x, self._queries(condition), key_padding_mask)

    def _queries(
        self, condition: Float[Tensor, "batch condition"] | None = None
    ) -> Float[Tensor, "*samples queries heads head_dim"]:
        if condition is None:
            return super()._queries()
        step = torch.unflatten(condition @ self.condition.t(), -1, self.query.shape)
        return scale_queries(self.query + step, self.heads, self.normalize_queries)
