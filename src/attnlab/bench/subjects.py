"""What the operator benchmark compares, and what each is expected to cost before it is run."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from attnlab.ablation.errors import UserError, unknown
from attnlab.bench import local_attention as local
from attnlab.operators.baselines import DepthwiseConv, WindowAttention
from attnlab.operators.qna import QnA

UNIT = "QnA"
"""The subject that all ratios are to."""


@dataclass(frozen=True)
class Setting:
    """What all cells of a benchmark share.

    Attributes:
        batch: Images.
        dim: Channels.
        dtype: Of tokens and parameters.
        device: Where it runs.
    """

    batch: int
    dim: int
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Cell:
    """One map size and, for local operators, one window.

    Attributes:
        side: Rows and columns of tokens.
        window: Side of the window in tokens; 0 where subjects see the whole map.
    """

    side: int
    window: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of the map."""
        return self.side**2


Layout = Literal["tokens", "NCHW", "channels last"]
Amount = Callable[[Setting, Cell], float]


@dataclass(frozen=True)
class Subject:
    """One contestant.

    Attributes:
        name: As tables and ``--only`` have it.
        about: What it is, for the reader.
        family: Shares its colour in plots.
        build: Makes the module for one cell.
        memory: Bytes that a training step is expected to allocate, roughly.
        work: What its time is proportional to, in any unit.
        layout: Of its input: [B, H, W, C], [B, C, H, W], or that with channels last in memory.
        limits: Where it does not run.
    """

    name: str
    about: str
    family: str
    build: Callable[[Setting, Cell], nn.Module]
    memory: Amount
    work: Amount
    layout: Layout = "tokens"
    limits: str = ""

    def module(self, setting: Setting, cell: Cell) -> nn.Module:
        """Return it ready to run, its parameters the same in every call."""
        torch.manual_seed(0)
        return self.build(setting, cell).to(setting.device, setting.dtype)

    def tokens(self, setting: Setting, cell: Cell) -> Tensor:
        """Return its input, the same numbers in every layout."""
        generator = torch.Generator().manual_seed(1)
        shape = (setting.batch, cell.side, cell.side, setting.dim)
        x = torch.randn(shape, generator=generator).to(setting.device, setting.dtype)
        if self.layout == "tokens":
            return x
        images = x.movedim(-1, 1)  # a view that lies in memory as channels last do
        return images if self.layout == "channels last" else images.contiguous()


def chosen(only: Sequence[str] | None, subjects: Sequence[Subject], unit: str) -> list[Subject]:
    """Return the subjects of these names, all if there are none, and the unit.

    Raises:
        UserError: There is no subject of a name.
    """
    names = [subject.name for subject in subjects]
    for name in only or ():
        if name not in names:
            raise UserError(unknown("subject", name, names))
    wanted = {unit, *(only or names)}
    return [subject for subject in subjects if subject.name in wanted]


def numbers(setting: Setting, cell: Cell) -> float:
    """Return the numbers in one map of the batch."""
    return setting.batch * cell.tokens * setting.dim


def maps(count: float) -> Amount:
    """Memory of some whole maps, whatever the window."""
    return lambda setting, cell: count * numbers(setting, cell) * setting.dtype.itemsize


def windows(count: float) -> Amount:
    """Memory of some copies of every token's window, beside twenty maps."""
    return lambda setting, cell: (
        (20 + count * cell.window**2) * numbers(setting, cell) * setting.dtype.itemsize
    )


def pairs(count: float) -> Amount:
    """Memory of some masks over all pairs of tokens, beside twenty maps."""
    return lambda setting, cell: (
        maps(20)(setting, cell) + count * setting.dtype.itemsize * cell.tokens**2
    )


def scores_on_cpu(count: float) -> Amount:
    """Memory of some scores of all pairs of tokens in every head; on other devices, of maps."""

    def amount(setting: Setting, cell: Cell) -> float:
        if setting.device.type != "cpu":
            return maps(20)(setting, cell)
        heads = max(1, setting.dim // local.HEAD_DIM)
        return pairs(count * heads * setting.batch)(setting, cell)

    return amount


def per_offset(setting: Setting, cell: Cell) -> float:
    """Work of whatever visits every entry of the window of every token."""
    return numbers(setting, cell) * cell.window**2


def per_window(setting: Setting, cell: Cell) -> float:
    """Work of attention inside windows: also linear maps, each worth 64 entries."""
    return numbers(setting, cell) * (min(cell.window, cell.side) ** 2 + 4 * setting.dim)


def per_pair(setting: Setting, cell: Cell) -> float:
    """Work of dense attention."""
    return numbers(setting, cell) * (cell.tokens + 4 * setting.dim)


def _qna(setting: Setting, cell: Cell) -> nn.Module:
    grid = (cell.side, cell.side)
    return QnA(setting.dim, max(1, setting.dim // 8), grid, kernel_size=cell.window)


def _conv(setting: Setting, cell: Cell) -> nn.Module:
    dim, k = setting.dim, cell.window
    return nn.Conv2d(dim, dim, k, padding=k // 2, groups=dim, bias=False)


def _conv_mixer(setting: Setting, cell: Cell) -> nn.Module:
    return DepthwiseConv(setting.dim, 1, (cell.side, cell.side), kernel_size=cell.window)


def _windowed(head_dim: int, setting: Setting, cell: Cell) -> nn.Module:
    heads = max(1, setting.dim // head_dim)
    grid = (cell.side, cell.side)
    return WindowAttention(setting.dim, heads, grid, window_size=cell.window)


def _peer(layer: type[local.LocalAttention], setting: Setting, cell: Cell) -> nn.Module:
    return layer(setting.dim, (cell.side, cell.side), cell.window)


def _local(
    name: str, about: str, layer: type[local.LocalAttention], memory: Amount, work: Amount
) -> Subject:
    build = functools.partial(_peer, layer)
    family = "SASA" if name.startswith("SASA") else name
    return Subject(name, about, family, build, memory, work, limits=layer.limits)


SUBJECTS = (
    Subject(UNIT, "QnA, 2 queries, heads of 8 channels", UNIT, _qna, maps(30), per_offset),
    Subject(
        "window attention", "Swin's windows without shift, heads of 32 channels as in Swin",
        "window attention", functools.partial(_windowed, 32), windows(0.05), per_window,
    ),
    Subject(
        "window attention, heads of 8", "the same with as many heads as QnA",
        "window attention", functools.partial(_windowed, 8), windows(0.15), per_window,
    ),
    Subject(
        "convolution", "bare depth-wise nn.Conv2d, NCHW",
        "convolution", _conv, maps(8), per_offset, layout="NCHW",
    ),
    Subject(
        "convolution, channels last", "bare depth-wise nn.Conv2d, channels last",
        "convolution", _conv, maps(8), per_offset, layout="channels last",
    ),
    Subject(
        "convolution mixer", "depth-wise convolution between two linear maps, as a mixer",
        "convolution", _conv_mixer, maps(16), per_offset,
    ),
    _local(
        "SASA, unfold", "self-attention in windows that F.unfold copies",
        local.UnfoldedAttention, windows(3.5), per_offset,
    ),
    _local(
        "SASA, views", "the same on strided views, the fastest plain form",
        local.SlidingAttention, windows(3.5), per_offset,
    ),
    _local(
        "dense attention, masked", "fused dense attention with a boolean mask",
        local.MaskedAttention, pairs(3), per_pair,
    ),
    _local(
        "FlexAttention", "torch's FlexAttention, compiled, block mask",
        local.FlexAttention, pairs(0.5), per_pair,
    ),
    _local(
        "NATTEN", "neighbourhood attention of the NATTEN package",
        local.Natten, scores_on_cpu(4), per_pair,
    ),
)  # fmt: skip
