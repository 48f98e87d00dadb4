"""The one exception whose message is meant for the user."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right; the command line prints it as one line."""


def show(value: object, limit: int = 60) -> str:
    """Return `value` as it would be typed, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def unknown(kind: str, name: object, allowed: Iterable[object]) -> str:
    """Say that `name` is no `kind`, what is allowed, and what was probably meant."""
    names = [str(each) for each in allowed]
    close = difflib.get_close_matches(str(name), names, n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown {kind} {show(name)}{guess}; allowed: {', '.join(names) or 'none'}"
