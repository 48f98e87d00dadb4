"""What every form of the window sums takes and returns, and what their backwards share."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Inputs(NamedTuple):
    """What is summed over windows; a backward returns the gradients in the same places.

    Attributes:
        scores: ``[batch, *grid, queries, heads]``; tokens of -inf count for nothing.
        values: ``[batch, *grid, heads, head_dim]``, shared by the queries.
        bias: Added to the scores, ``[offsets, queries, heads]``.
        scale: Multiplies after the softmax, ``[offsets or 1, queries, heads]``.
    """

    scores: Tensor
    values: Tensor
    bias: Tensor
    scale: Tensor

    def to(self, dtype: torch.dtype) -> "Inputs":
        """Return all in one type."""
        return Inputs(*(tensor.to(dtype) for tensor in self))


class Sums(NamedTuple):
    """What a forward leaves for its backward, beside the inputs.

    Attributes:
        out: The result, ``[batch, *out, heads, head_dim]``.
        inverse: One over the sum of exponentials, ``[batch, *out, queries, heads]``; 0 where a
            window has no token.
        partials: The terms of all queries but the last, ``[batch, queries - 1, *out, heads,
            head_dim]``.
    """

    out: Tensor
    inverse: Tensor
    partials: Tensor


def precision(values: Tensor) -> torch.dtype:
    """Return the type in which exponentials are taken: float32 or better."""
    return torch.promote_types(values.dtype, torch.float32)


def row_products(
    grad_out: Float[Tensor, "batch *out heads head_dim"], sums: Sums
) -> Float[Tensor, "batch *out queries heads"]:
    """Return the product of the gradient with each query's term, summed over its channels."""
    grad = grad_out.mT
    products = torch.empty_like(sums.inverse)
    torch.sum(grad * sums.out.mT, -2, out=products[..., -1, :])
    for query, partial in enumerate(sums.partials.unbind(1)):
        product = torch.sum(grad * partial.mT, -2, out=products[..., query, :])
        products[..., -1, :] -= product
    return products
