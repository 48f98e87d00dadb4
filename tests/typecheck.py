"""The type checker that reads jaxtyping's shapes while the tests run."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from beartype import beartype


def modules() -> list[str]:
    """Return the modules to check: not Triton's kernels, which it reads from their source."""
    (root,) = find_spec("attnlab").submodule_search_locations
    files = [path for name in ("operators", "backbones") for path in Path(root, name).rglob("*.py")]
    names = [path.relative_to(Path(root).parent).with_suffix("") for path in files]
    return [".".join(name.parts) for name in names if not name.name.startswith("triton_")]


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a call's shapes and types; constructors check their own arguments, better worded."""
    return function if function.__name__ == "__init__" else beartype(function)
