"""Lists and spans of values in words, none longer than a reader bears."""

from collections.abc import Sequence

NAMED = 12
"""How many cells a sentence names before it counts the others."""


def join(values: Sequence[object]) -> str:
    """Return ``a, b, c``."""
    return ", ".join(map(str, values))


def either(values: Sequence[object]) -> str:
    """Return ``a or b``."""
    return " or ".join(map(str, values))


def some(texts: Sequence[str], between: str = "; ", where: str = "") -> str:
    """Return the first few texts, and how many more there are (and `where` they are found)."""
    if len(texts) <= NAMED:
        return between.join(texts)
    return f"{between.join(texts[:NAMED])} and {len(texts) - NAMED:,} more{where}"


def span(values: Sequence[float]) -> str:
    """Return the lowest to the highest value, thousands set apart."""
    low, high = f"{min(values):,}", f"{max(values):,}"
    return low if low == high else f"{low} to {high}"


def count(number: int, noun: str) -> str:
    """Return ``1 run`` or ``2 runs``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def seeds(cell: str, numbers: Sequence[int]) -> str:
    """Return a cell with some of its seeds, such as ``num_rpes=4 seeds 0, 2``."""
    return f"{cell} seed{'s' * (len(numbers) > 1)} {join(numbers)}"
