"""Initialisers that operators and backbones share."""

import math

from torch import Tensor, nn

TRUNCATED_STD = 0.87962566103423978  # of a standard normal cut at two standard deviations


def lecun_normal_(weight: Tensor, fan_in: int) -> Tensor:
    """Fill `weight` from a normal cut at two sigma, with variance ``1 / fan_in`` after the cut.

    This is Flax's `lecun_normal`, which corrects sigma for the mass that the cut removes.
    """
    sigma = math.sqrt(1 / fan_in) / TRUNCATED_STD
    return nn.init.trunc_normal_(weight, std=sigma, a=-2 * sigma, b=2 * sigma)


def lecun_linear(dim_in: int, dim_out: int, bias: bool = False) -> nn.Linear:
    """Return a linear layer initialised by `lecun_normal_`, its bias (if any) by 0."""
    linear = nn.Linear(dim_in, dim_out, bias=bias)
    lecun_normal_(linear.weight, dim_in)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
