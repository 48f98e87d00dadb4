"""Checks of options that several operators share."""

from collections.abc import Collection


def check_one_of(name: str, value: str, allowed: Collection[str]) -> None:
    """Raise ValueError, naming what is allowed, unless `value` is among it."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(allowed)}")
