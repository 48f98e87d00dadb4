"""What the scaling benchmark compares: LiSA in all its forms, and mixers that see the whole map."""

import functools
import math
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from attnlab.bench.subjects import Amount, Cell, Setting, Subject, maps, numbers, per_pair
from attnlab.operators.base import Grid
from attnlab.operators.baselines import CrossCovariance, GlobalFilter, SelfAttention
from attnlab.operators.lisa.module import LiSA
from attnlab.operators.lisa.options import APPROXIMATIONS

UNIT = "SDPA"
"""The subject that all ratios are to."""

HEAD_DIM = 64
RPES = 4
"""R, where it is not what is varied."""

VARIED = {"fft": (1, RPES, 8), "auto": (1, RPES, 8)}
"""Approximations that are measured at several R."""


class NaiveAttention(SelfAttention):
    """Self-attention that stores its N x N weights: the textbook's three lines."""

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *grid dim"]:
        """Multiply, softmax, multiply."""
        q = self.query(x).flatten(1, -2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        kv = self.key_value(x).flatten(1, -2).unflatten(-1, (2, self.heads, -1))
        k, v = kv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        mixed: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(x.shape))
        return mixed


def lisa_name(approximation: str, num_rpes: int = RPES) -> str:
    """Return what tables and ``--only`` call a form of LiSA."""
    return f"LiSA {approximation}, R={num_rpes}"


def per_token(setting: Setting, cell: Cell) -> float:
    """Work of whatever is linear in the number of tokens, or a logarithm above it."""
    return numbers(setting, cell) * math.log2(cell.tokens + 1)


def per_axis(setting: Setting, cell: Cell) -> float:
    """Work of matrix products along one axis after the other."""
    return numbers(setting, cell) * cell.side


def score_maps(per_sample: float, shared: float = 0) -> Amount:
    """Memory of N x N maps, some per head of every sample, some shared, beside twenty maps."""

    def amount(setting: Setting, cell: Cell) -> float:
        count = per_sample * setting.batch * _heads(setting) + shared
        return maps(20)(setting, cell) + count * setting.dtype.itemsize * cell.tokens**2

    return amount


def _heads(setting: Setting) -> int:
    return max(1, setting.dim // HEAD_DIM)


def _grid(cell: Cell) -> Grid:
    return (cell.side, cell.side)


def _mixer(
    mixer: type[SelfAttention | GlobalFilter | CrossCovariance], setting: Setting, cell: Cell
) -> nn.Module:
    return mixer(setting.dim, _heads(setting), _grid(cell))


def _linear(setting: Setting, cell: Cell) -> nn.Module:
    heads = _heads(setting)
    width = setting.dim // heads
    return LiSA(setting.dim, heads, _grid(cell), num_rpes=0, key_dim=width, key_groups=heads)


def _lisa(approximation: str, num_rpes: int, setting: Setting, cell: Cell) -> nn.Module:
    # The layer itself checks its options; any approximation that it knows is measured.
    options: dict[str, Any] = {"approximation": approximation, "num_rpes": num_rpes}
    return LiSA(setting.dim, _heads(setting), _grid(cell), **options)


def _lisa_subjects() -> list[Subject]:
    """Return a subject per approximation and R."""
    subjects = []
    works = {"none": per_pair, "low_rank": per_axis}
    for approximation in APPROXIMATIONS:
        dense = approximation == "none"
        for num_rpes in VARIED.get(approximation, (RPES,)):
            name = lisa_name(approximation, num_rpes)
            subjects.append(
                Subject(
                    name,
                    f"approximation {approximation}, {num_rpes} RPEs",
                    family=f"LiSA {approximation}",
                    build=functools.partial(_lisa, approximation, num_rpes),
                    memory=score_maps(6, 4 * num_rpes) if dense else maps(20 + 16 * num_rpes),
                    work=works.get(approximation, per_token),
                )
            )
    return subjects


SUBJECTS = (
    *_lisa_subjects(),
    Subject(
        UNIT, "self-attention by torch's fused scaled_dot_product_attention",
        "self-attention", functools.partial(_mixer, SelfAttention), maps(20), per_pair,
    ),
    Subject(
        "naive attention", "the same with its N x N weights stored",
        "self-attention", functools.partial(_mixer, NaiveAttention), score_maps(4), per_pair,
    ),
    Subject(
        "global filter", "GFNet's layer, a learnt filter between two FFTs, without projections",
        "global filter", functools.partial(_mixer, GlobalFilter), maps(20), per_token,
    ),
    Subject(
        "linear attention", "efficient attention (Shen et al. 2021): LiSA without RPEs, a key per "
        "head as wide as its values", "linear attention", _linear, maps(20), per_token,
    ),
    Subject(
        "XCA", "cross-covariance attention, XCiT's between channels, without its convolutions",
        "XCA", functools.partial(_mixer, CrossCovariance), maps(20), per_token,
    ),
)  # fmt: skip
