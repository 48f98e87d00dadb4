"""What a benchmark leaves: the conditions it ran under, and a CSV."""

import csv
import datetime
import importlib.metadata
import io
import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence

from attnlab.callbacks.provenance import git_state, hardware

PACKAGES = ("torch", "triton", "natten", "numpy")


def versions() -> str:
    """Return Python's version and those of the packages that are there."""
    found = [f"python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def conditions(arguments: Sequence[str]) -> dict[str, str]:
    """Return command, hardware, load, versions, commit and date, by name."""
    machine, git = hardware(), git_state()
    parts = [machine["gpu"], machine["cpu"], f"{machine['cores']} cores"]
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    changed = " with uncommitted changes" if git["dirty"] else ""
    return {
        "Command": shlex.join(["python", "-m", "attnlab.bench", *arguments]),
        "Hardware": ", ".join(str(part) for part in parts if part),
        "Threads": str(machine["threads"]),
        "Load average before": load,
        "Versions": versions(),
        "Code": f"commit {str(git['commit'])[:10]}{changed}",
        "Date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def csv_text(header: Mapping[str, str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return a CSV whose first lines, each behind a #, are the conditions.

    Raises:
        ValueError: There are no rows.
    """
    lines = list(rows)
    if not lines:
        raise ValueError("no rows")
    text = io.StringIO()
    for name, value in header.items():
        text.write(f"# {name}: {value}\n")
    writer = csv.DictWriter(text, list(lines[0]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
