"""What a user reads who points a data module at the wrong place."""

from pathlib import Path

_SHOWN = 5


def describe_missing(root: Path, wanted: str) -> str:
    """Say in one line what is wrong with a root, what is accepted, and what lies around it.

    Args:
        root: Where the data should be.
        wanted: The layouts that are accepted.
    """
    if not root.exists():
        state = "does not exist"
    elif not root.is_dir():
        state = "is a file"
    elif not any(root.iterdir()):
        state = "is empty"
    else:
        state = f"holds {_some(root)}, which is none of them"
    above = next(path for path in root.absolute().parents if path.is_dir())
    return f"root={str(root)!r} {state}; accepted: {wanted}; {above} holds {_some(above)}"


def _some(folder: Path) -> str:
    """Return the first entries of a folder by name."""
    try:
        names = sorted(
            path.name + "/" * path.is_dir()
            for path in folder.iterdir()
            if not path.name.startswith(".")
        )
    except OSError as error:
        return f"what cannot be listed ({error.strerror})"
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "nothing") + rest
