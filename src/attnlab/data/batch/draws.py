"""Random numbers as a function of (seed, name, position): the same on every device."""

import math
import zlib

import torch
from jaxtyping import Float, Int64
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


def bits(seeds: Seeds, stream: str, count: int) -> Int64[Tensor, "batch count"]:
    """Return 64 random bits per number: element n of splitmix64 seeded by (seed, stream).

    Args:
        seeds: One integer per sample.
        stream: Name of what the numbers are for; numbers of different names are independent.
        count: How many per sample.
    """
    start = mix(seeds ^ zlib.crc32(stream.encode()))
    steps = torch.arange(count, device=seeds.device) * _GAMMA
    return mix(start[:, None] + steps)


def uniform(seeds: Seeds, stream: str, count: int) -> Float[Tensor, "batch count"]:
    """Return float32 numbers in [0, 1), multiples of 2^-24; bit-identical on every device.

    Args:
        seeds: One integer per sample.
        stream: Name of what the numbers are for.
        count: How many per sample.
    """
    return _shifted(bits(seeds, stream, count), 40).float().mul_(2.0**-24)


def normal(seeds: Seeds, stream: str, count: int) -> Float[Tensor, "batch count"]:
    """Return standard normal float32 numbers (Box and Muller 1958), two from each 64 bits.

    Devices round the logarithm and the cosine differently, in the last bits only. The largest
    possible value is sqrt(48 ln 2) = 5.8, which is exceeded once in 10^8 draws.

    Args:
        seeds: One integer per sample.
        stream: Name of what the numbers are for.
        count: How many per sample.
    """
    pairs = bits(seeds, stream, (count + 1) // 2)
    angle = (pairs & 0xFFFFFF).float().mul_(2 * math.pi * 2.0**-24)
    radius = _shifted(pairs, 40).float().add_(1).mul_(2.0**-24).log_().mul_(-2).sqrt_()
    both = torch.cat([radius * angle.cos(), radius.mul_(angle.sin_())], 1)
    return both[:, :count]


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
