"""What the options of the official QnA code may be: any other value is a ValueError naming it."""

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

REQUIRED = object()
"""Default of an option that has none."""


@dataclass(frozen=True)
class Option:
    """One official option.

    Attributes:
        allowed: What its value must be, in words.
        read: Returns the value in its Python type, or raises TypeError or ValueError.
        default: Value if the option is left out; None is then allowed as well where it is None.
    """

    allowed: str
    read: Callable[[Any], Any]
    default: Any = REQUIRED


def integer(least: int = 1, default: Any = REQUIRED) -> Option:
    """Return an option for integers of at least `least`; bool is none."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or operator.index(value) < least:
            raise ValueError
        return operator.index(value)

    return Option(f"an integer of at least {least}", read, default)


def odd() -> Option:
    """Return an option for odd integers: a window with a centre."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or operator.index(value) < 1 or operator.index(value) % 2 == 0:
            raise ValueError
        return operator.index(value)

    return Option("an odd integer of at least 1", read)


def rate(default: Any = REQUIRED) -> Option:
    """Return an option for numbers in [0, 1); bool is none."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError
        if not 0 <= float(value) < 1:
            raise ValueError
        return float(value)

    return Option("a number in [0, 1)", read, default)


def flag(default: Any = REQUIRED) -> Option:
    """Return an option that is on or off."""

    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value

    return Option("True or False", read, default)


def one_of(*allowed: str | float | None) -> Option:
    """Return an option for these values, the first of them the default."""

    def read(value: Any) -> str | float | None:
        if not isinstance(value, str | Real | None):
            raise TypeError
        for entry in allowed:
            if value == entry and isinstance(value, bool) is isinstance(entry, bool):
                return entry
        raise ValueError

    listed = ", ".join(repr(value) for value in allowed)
    return Option(listed if len(allowed) == 1 else f"one of {listed}", read, allowed[0])


def per_stage(entry: Option) -> Option:
    """Return an option for lists with one value for each stage."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError
        return tuple(entry.read(plain(element)) for element in value)

    return Option(f"a list, each entry {entry.allowed}", read)


def plain(value: Any) -> Any:
    """Return NumPy's scalars and arrays as Python's scalars and lists, all else as it is."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def read_options(config: Any, options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the values of all options, the defaults filled in.

    Args:
        config: Mapping from option to value, or its JSON.
        options: All options there are.

    Raises:
        ValueError: An option is unknown, missing or has a value that it cannot have, or `config` is
            no mapping.
    """
    given = _mapping(plain(config))
    if unknown := sorted(given.keys() - options.keys(), key=str):
        raise ValueError(f"unknown option {unknown[0]}={given[unknown[0]]!r}")
    return {name: _read(name, option, given) for name, option in options.items()}


def _mapping(config: Any) -> dict[str, Any]:
    try:
        # Not isinstance: the ConfigDict of the official code has keys, but is no Mapping.
        return dict(json.loads(config) if isinstance(config, str) else config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{config=} must be a mapping or its JSON") from error


def _read(name: str, option: Option, given: Mapping[str, Any]) -> Any:
    value = plain(given.get(name, option.default))
    if value is REQUIRED:
        raise ValueError(f"option {name} is missing")
    if value is None and option.default is None:
        return None
    try:
        return option.read(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}={value!r} must be {option.allowed}") from error
