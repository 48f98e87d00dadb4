"""What every part of `ablations.yaml` is checked for: mappings, names, texts, numbers."""

import re
from typing import Any

from attnlab.ablation.errors import UserError, show, unknown


def section(
    where: str, node: object, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return `node` as a mapping that has all `required` keys and none beyond the `optional`.

    Raises:
        UserError: It is no such mapping.
    """
    if not isinstance(node, dict):
        raise UserError(f"{where} must be a mapping, not {show(node)}")
    for key in node:
        if key not in required + optional:
            raise UserError(f"{where}: {unknown('key', key, required + optional)}")
    for key in required:
        if key not in node:
            raise UserError(f"{where}: key {key!r} is missing")
    return node


def named(where: str, node: object) -> dict[str, Any]:
    """Return a mapping whose keys can be names of directories.

    Raises:
        UserError: It is none, or empty.
    """
    if not isinstance(node, dict) or not node:
        raise UserError(f"{where} must be a mapping with at least one entry, not {show(node)}")
    for name in node:
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name):
            raise UserError(f"{where}: {show(name)} is no name; use letters, digits and _ . + -")
    return node


def text(where: str, value: object) -> str:
    """Return a text without the white space around it, or raise a `UserError`."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where} must be a text, not {show(value)}")
    return value.strip()


def count(where: str, value: object, least: int) -> int:
    """Return an integer of at least `least`, or raise a `UserError`."""
    if type(value) is not int or value < least:
        raise UserError(f"{where} must be an integer of at least {least}, not {show(value)}")
    return value


def choice(where: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return one of the `allowed` texts, or raise a `UserError`."""
    if value not in allowed:
        raise UserError(f"{where} must be one of {', '.join(allowed)}, not {show(value)}")
    return str(value)
