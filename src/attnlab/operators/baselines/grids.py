"""What the baseline operators share about token grids of two or three axes."""

from jaxtyping import Float
from torch import Tensor


def strided(x: Float[Tensor, "batch *grid dim"], stride: int) -> Float[Tensor, "batch *out dim"]:
    """Keep the tokens at ``stride * i`` on every axis."""
    return x[:, *[slice(None, None, stride)] * (x.ndim - 2)]
