"""The type checker that reads jaxtyping's shapes while the tests run."""

from collections.abc import Callable
from typing import Any

from beartype import beartype


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a call's shapes and types; constructors check their own arguments, better worded."""
    return function if function.__name__ == "__init__" else beartype(function)
