"""Random numbers as a function of (seed, name, position): the same on every device."""

import math
import zlib
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.special import betaincinv
from torch import Tensor

Seeds = Int64[Tensor, "batch"]


def _signed(value: int) -> int:
    """Return the int64 that has the bits of a 64-bit unsigned integer."""
    return value - 2**64 if value >= 2**63 else value


_GAMMA, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shifted(values: Int64[Tensor, "*shape"], bits: int) -> Int64[Tensor, "*shape"]:
    """Shift right and fill with zeros; torch's own shift copies the sign."""
    return (values >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def mix(values: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    """Scramble 64 bits by the finaliser of splitmix64 (Steele, Lea and Flood 2014): `keys.mix`."""
    values = values + _GAMMA  # int64 wraps around, on CPU and CUDA
    values = values.bitwise_xor_(_shifted(values, 30)).mul_(_FIRST)
    values = values.bitwise_xor_(_shifted(values, 27)).mul_(_SECOND)
    return values.bitwise_xor_(_shifted(values, 31))


def keys(seeds: Seeds, stream: str) -> Seeds:
    """Return where the numbers of each sample start.

    Args:
        seeds: One integer per sample.
        stream: Name of what the numbers are for; numbers of different names are independent.
    """
    return mix(seeds ^ zlib.crc32(stream.encode()))


def bits_at(
    start: Int64[Tensor, "*shape"], position: Int64[Tensor, "*other"]
) -> Int64[Tensor, "..."]:
    """Return the 64 random bits at some positions of the streams that begin at `start`.

    Args:
        start: Of `keys`.
        position: Which number; of a shape that broadcasts with that of `start`.
    """
    return mix(start + position * _GAMMA)


def bits(seeds: Seeds, stream: str, count: int) -> Int64[Tensor, "batch count"]:
    """Return the first `count` numbers of 64 random bits of each sample: splitmix64."""
    return bits_at(keys(seeds, stream)[:, None], torch.arange(count, device=seeds.device))


def to_uniform(values: Int64[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return random bits as float32 in [0, 1), multiples of 2^-24, the same on every device."""
    return _shifted(values, 40).float().mul_(2.0**-24)


def to_normal(values: Int64[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return random bits as standard normal float32 (Box and Muller 1958).

    Devices round the logarithm and the cosine differently, in the last bits only. No value lies
    beyond sqrt(48 ln 2) = 5.8, which the normal distribution exceeds once in 10^8 draws.
    """
    angle = (values & 0xFFFFFF).float().mul_(2 * math.pi * 2.0**-24)
    radius = to_uniform(values).add_(2.0**-24).log_().mul_(-2).sqrt_()
    return radius.mul_(angle.cos_())


def uniform(seeds: Seeds, stream: str, count: int) -> Float[Tensor, "batch count"]:
    """Return `count` numbers per sample in [0, 1), see `to_uniform`.

    Args:
        seeds: One integer per sample.
        stream: Name of what the numbers are for.
        count: How many per sample.
    """
    return to_uniform(bits(seeds, stream, count))


def normal(seeds: Seeds, stream: str, count: int) -> Float[Tensor, "batch count"]:
    """Return `count` standard normal numbers per sample, see `to_normal`.

    Args:
        seeds: One integer per sample.
        stream: Name of what the numbers are for.
        count: How many per sample.
    """
    return to_normal(bits(seeds, stream, count))


@lru_cache
def _beta_quantiles(alpha: float, device: torch.device) -> Float[Tensor, "quantiles"]:
    values = betaincinv(alpha, alpha, np.linspace(0, 1, 2**16 + 1))
    return torch.tensor(values, dtype=torch.float32, device=device)


def beta(seeds: Seeds, stream: str, alpha: float) -> Float[Tensor, "batch"]:
    """Return one number per sample from the symmetric beta distribution.

    The inverse of its distribution function, exact at 65,537 points and linear between them: no
    probability is off by more than 2^-16.

    Args:
        seeds: One integer per sample.
        stream: Name of what the numbers are for.
        alpha: Both parameters of the distribution, positive.
    """
    table = _beta_quantiles(alpha, seeds.device)
    place = uniform(seeds, stream, 1)[:, 0] * (len(table) - 1)
    low = place.long()
    return torch.lerp(table[low], table[low + 1], place - low)


def integers(
    seeds: Seeds, stream: str, high: Int64[Tensor, "batch"] | int
) -> Int64[Tensor, "batch"]:
    """Return one integer per sample, uniform in 0 .. high - 1; bit-identical on every device.

    Args:
        seeds: One integer per sample.
        stream: Name of what the numbers are for.
        high: How many values there are, below 2^31; per sample if a tensor.
    """
    return _shifted(_shifted(bits(seeds, stream, 1)[:, 0], 32) * high, 32)
