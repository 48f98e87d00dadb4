"""``attnlab.bench peers``: an environment with what must not be in the project's own.

NATTEN is built against one torch and torchvision breaks `import lightning`, so peers live beside
the project; the benchmark itself imports neither and runs there on ``PYTHONPATH=src``.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from attnlab.ablation.errors import UserError

NATTEN = "natten==0.21.7"
NEEDED = ("jaxtyping", "matplotlib", "numpy", "setuptools", "wheel")
"""What the benchmark imports, and what building NATTEN takes."""

Runner = Callable[[Sequence[str]], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--path", type=Path, default=Path(".venv-peers"), metavar="DIR")
    parser.add_argument(
        "--torch",
        default=f"torch=={torch.__version__.partition('+')[0]}",
        help="what to install as torch; default: the version in use",
    )
    parser.add_argument("--natten", default=NATTEN, help=f"default: {NATTEN}")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Make the environment and say how to use it."""
    make(options.path, options.torch, options.natten, subprocess.call)
    print(f"PYTHONPATH=src {python(options.path)} -m attnlab.bench operators --only NATTEN")
    return 0


def python(path: Path) -> Path:
    """Return the interpreter of an environment."""
    return path / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def make(path: Path, torch_requirement: str, natten_requirement: str, call: Runner) -> None:
    """Make an environment, or bring one up to date.

    Args:
        path: Its directory.
        torch_requirement: As pip takes it.
        natten_requirement: As pip takes it.
        call: Runs a command line and returns its exit code.

    Raises:
        UserError: A step failed; what pip says about it has been printed.
    """
    pip = [str(python(path)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [
        [sys.executable, "-m", "venv", str(path)],
        [*pip, torch_requirement, *NEEDED],
        # Its build looks for the torch that it is to run with.
        [*pip, "--no-build-isolation", natten_requirement],
    ]
    for step in steps:
        if code := call(step):
            raise UserError(f"{' '.join(step)} ended with {code}")
    (path / ".gitignore").write_text("*\n")
