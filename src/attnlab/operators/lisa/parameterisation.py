"""How tables are stored as one parameter: entry by entry, or as factors of separable tables."""

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa import factors
from attnlab.operators.lisa import tables as rpe
from attnlab.operators.lisa.reference import unwrap

Stored = Float[Tensor, "rows rpes *stored"]
Resized = Float[Tensor, "rows rpes *resized"]
Tables = Float[Tensor, "rows rpes *offsets"]


class Parameterisation(Protocol):
    """What a layer does with stored tables without knowing how they are stored."""

    def draw(self, rows: int, rpes: int, grid: Grid) -> Stored:
        """Draw initial tables."""

    def resize(self, stored: Stored, old: Grid, new: Grid, gain: float = 1.0) -> Resized:
        """Interpolate tables to another grid and multiply them by `gain`."""

    def copy_over_time(self, stored: Stored, grid: Grid, frames: int, gain: float = 1.0) -> Resized:
        """Repeat tables for every offset in time and multiply them by `gain`."""

    def full(self, stored: Stored, grid: Grid) -> Tables:
        """Return the tables at all offsets -(H-1)..H-1 of `grid`, in order."""

    def pictures(self, stored: Stored, grid: Grid) -> Float[Tensor, "maps height width"]:
        """Return the tables as `tables.pictures`."""


@dataclass(frozen=True)
class Entries:
    """Every entry is learnt.

    Attributes:
        periodic: The tables wrap round the grid.
    """

    periodic: bool = False

    def draw(self, rows: int, rpes: int, grid: Grid) -> Stored:
        """See `tables.gaussian_tables`."""
        return rpe.gaussian_tables(rows, rpes, grid, periodic=self.periodic)

    def resize(self, stored: Stored, old: Grid, new: Grid, gain: float = 1.0) -> Resized:
        """See `tables.resize`."""
        return gain * rpe.resize(stored, old, new, periodic=self.periodic)

    def copy_over_time(self, stored: Stored, grid: Grid, frames: int, gain: float = 1.0) -> Resized:
        """See `tables.copy_over_time`."""
        return gain * rpe.copy_over_time(stored, frames, periodic=self.periodic)

    def full(self, stored: Stored, grid: Grid) -> Tables:
        """Return the tables themselves, periodic ones read at all offsets."""
        return unwrap(stored, grid) if self.periodic else stored

    def pictures(self, stored: Stored, grid: Grid) -> Float[Tensor, "maps height width"]:
        """See `tables.pictures`."""
        return rpe.pictures(stored, periodic=self.periodic)


@dataclass(frozen=True)
class Separable:
    """Factors of sum_i u_i(dy) v_i(dx) are learnt, packed by `factors.pack`.

    Attributes:
        rank: Terms of a table.
    """

    rank: int

    def draw(self, rows: int, rpes: int, grid: Grid) -> Stored:
        """See `factors.gaussian_factors`."""
        return factors.gaussian_factors(rows, rpes, self.rank, grid)

    def resize(self, stored: Stored, old: Grid, new: Grid, gain: float = 1.0) -> Resized:
        """Interpolate every factor along its axis, which interpolates the table."""
        first, *others = factors.resize(factors.unpack(stored, old), old, new)
        return factors.pack([gain * first, *others])

    def copy_over_time(self, stored: Stored, grid: Grid, frames: int, gain: float = 1.0) -> Resized:
        """Put a constant factor over time in front."""
        time, *space = factors.copy_over_time(factors.unpack(stored, grid), frames)
        return factors.pack([gain * time, *space])

    def full(self, stored: Stored, grid: Grid) -> Tables:
        """Multiply the factors out."""
        return factors.full_tables(factors.unpack(stored, grid))

    def pictures(self, stored: Stored, grid: Grid) -> Float[Tensor, "maps height width"]:
        """Show the tables multiplied out."""
        return rpe.pictures(self.full(stored, grid), periodic=False)
