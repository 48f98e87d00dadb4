"""``attnlab.bench peers``: an environment with what must not be in the project's own.

NATTEN is built against one torch and torchvision breaks `import lightning`, so peers live beside
the project. The operator benchmark imports neither and runs there on ``PYTHONPATH=src``; the input
benchmark stays here and starts the peers' interpreter.
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

VISION = ("torchvision==0.28.0", "timm==1.0.31", "torchcodec==0.13.0")
"""What the input benchmark compares with: built for torch 2.13; installed without what they ask
for, which is another torch."""

VISION_NEEDS = ("Pillow<13", "PyYAML", "huggingface_hub", "numpy", "safetensors")
"""What they import. Pillow 13 refuses what timm's RandAugment asks of it now and then."""

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
    parser.add_argument(
        "--input", action="store_true", help="with torchvision, timm and torchcodec, not NATTEN"
    )


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Make the environment and say how to use it."""
    if options.input:
        make_input(options.path, options.torch, subprocess.call)
        print(f"python -m attnlab.bench input --peers-python {python(options.path)}")
        return 0
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
    # Its build looks for the torch that it is to run with.
    natten = ["--no-build-isolation", natten_requirement]
    _install(path, [[torch_requirement, *NEEDED], natten], call)


def make_input(path: Path, torch_requirement: str, call: Runner) -> None:
    """Make or update the environment with the peers of the input benchmark; see `make`.

    FFmpeg's libraries, which torchcodec loads, are the system's.
    """
    _install(path, [[torch_requirement, *VISION_NEEDS], ["--no-deps", *VISION]], call)


def _install(path: Path, wanted: Sequence[Sequence[str]], call: Runner) -> None:
    pip = [str(python(path)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [[sys.executable, "-m", "venv", str(path)], *([*pip, *step] for step in wanted)]
    for step in steps:
        if code := call(step):
            raise UserError(f"{' '.join(step)} ended with {code}")
    (path / ".gitignore").write_text("*\n")
