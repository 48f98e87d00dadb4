"""The geometry of windows: which tokens each output token sees."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from attnlab.operators.base import Grid

Padding = tuple[tuple[int, int], ...]


def per_axis(name: str, value: int | tuple[int, ...], rank: int, least: int) -> tuple[int, ...]:
    """Return one number for each axis.

    Raises:
        ValueError: There is another number of values, or one is below `least`.
    """
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or min(values) < least:
        raise ValueError(f"{name}={value} must be one or {rank} integers of at least {least}")
    return values


@dataclass(frozen=True)
class Window:
    """Windows on a grid: entry u of window i is token ``i * stride - before + u * dilation``.

    Attributes:
        size: Entries per axis.
        stride: Tokens between neighbouring windows, per axis.
        padding: Empty tokens (before, after) the grid, per axis.
        dilation: Tokens between neighbouring entries, per axis.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]

    @classmethod
    def build(
        cls,
        rank: int,
        size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | None = None,
        dilation: int | tuple[int, ...] = 1,
    ) -> "Window":
        """Return windows of the given sizes, the same on every axis where there is one number.

        Without `padding`, window i is centred on token ``i * stride`` (an even window reaches one
        entry further behind than before), so an axis of n tokens has ``ceil(n / stride)`` windows.

        Raises:
            ValueError: A number is below its least, or `padding` not below the window's extent.
        """
        sizes = per_axis("kernel_size", size, rank, 1)
        dilations = per_axis("dilation", dilation, rank, 1)
        reach = [step * (count - 1) for step, count in zip(dilations, sizes, strict=True)]
        if padding is None:
            sides = tuple((total // 2, total - total // 2) for total in reach)
        else:
            given = per_axis("padding", padding, rank, 0)
            if any(empty > total for empty, total in zip(given, reach, strict=True)):
                raise ValueError(f"{padding=} must be less than the extent of the window, {size=}")
            sides = tuple((empty, empty) for empty in given)
        return cls(sizes, per_axis("stride", stride, rank, 1), sides, dilations)

    @classmethod
    def of(cls, numbers: list[int]) -> "Window":
        """Return the windows that `flat` has described."""
        rank = len(numbers) // 5
        size, stride, before, after, dilation = (
            tuple(numbers[rank * part : rank * (part + 1)]) for part in range(5)
        )
        return cls(size, stride, tuple(zip(before, after, strict=True)), dilation)

    @property
    def flat(self) -> list[int]:
        """All numbers: sizes, strides, padding before, padding after, dilations."""
        before, after = zip(*self.padding, strict=True)
        return [*self.size, *self.stride, *before, *after, *self.dilation]

    @property
    def transposed(self) -> "Window":
        """The windows, of unit stride, of the windows that see a token: entries in reverse."""
        reach = [step * (size - 1) for step, size in zip(self.dilation, self.size, strict=True)]
        sides = zip(reach, self.padding, strict=True)
        padding = tuple((total - before, total - after) for total, (before, after) in sides)
        return replace(self, padding=padding)

    def on_clips(self, frames: int) -> "Window":
        """Return the windows over `frames` frames in a row of these ones, one at every frame."""
        time = Window.build(1, frames)
        return Window(
            time.size + self.size,
            time.stride + self.stride,
            time.padding + self.padding,
            time.dilation + self.dilation,
        )

    def widened(self, extra: int) -> "Window":
        """Return the windows with `extra` more entries on both sides of the last axis."""
        *rest, (before, after) = self.padding
        room = extra * self.dilation[-1]
        return replace(
            self,
            size=(*self.size[:-1], self.size[-1] + 2 * extra),
            padding=(*rest, (before + room, after + room)),
        )

    @property
    def offsets(self) -> int:
        """Entries of one window."""
        return math.prod(self.size)

    def count(self, grid: Grid) -> Grid:
        """Return how many windows there are on each axis.

        Raises:
            ValueError: The padded grid is smaller than one window.
        """
        counts = []
        for tokens, size, stride, sides, dilation in zip(
            grid, self.size, self.stride, self.padding, self.dilation, strict=True
        ):
            room = tokens + sum(sides) - dilation * (size - 1) - 1
            if room < 0:
                raise ValueError(f"{grid=} is smaller than one window of kernel_size={self.size}")
            counts.append(room // stride + 1)
        return tuple(counts)

    def pads(self, trailing: int) -> list[int]:
        """Return the padding as `torch.nn.functional.pad` takes it, `trailing` axes left alone."""
        return [0, 0] * trailing + [side for sides in reversed(self.padding) for side in sides]

    def entries(self, padded: Tensor, grid: Grid) -> Iterator[Tensor]:
        """Yield the views ``[batch, *count(grid), ...]`` of padded tokens, entry by entry."""
        axes = list(zip(self.count(grid), self.stride, self.dilation, strict=True))
        for entry in itertools.product(*map(range, self.size)):
            spans = (
                slice(at * dilation, at * dilation + stride * (count - 1) + 1, stride)
                for at, (count, stride, dilation) in zip(entry, axes, strict=True)
            )
            yield padded[:, *spans]

    def crop(self, padded: Tensor, grid: Grid) -> Tensor:
        """Return the view without the padding."""
        spans = (
            slice(before, before + size)
            for (before, _), size in zip(self.padding, grid, strict=True)
        )
        return padded[:, *spans]
