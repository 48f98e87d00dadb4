"""``python -m attnlab demo-data imagenet | cifar10 | cifar100 | ssv2 DIR``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, auto_cli

from attnlab.data.cifar_files import Form
from attnlab.data.demo import cifar, imagenet, ssv2
from attnlab.messages import bad_input


def _cifar(classes: int) -> Callable[..., None]:
    def write(
        directory: Path, seed: int = 0, train: int = 1000, test: int = 200, form: Form = "binary"
    ) -> None:
        """Write a small CIFAR of coloured digits; see `attnlab.data.demo.cifar.write`.

        Args:
            directory: Root to write to; made if missing.
            seed: Determines all images.
            train: Training images.
            test: Test images, from other scans.
            form: ``binary`` records or ``python`` pickles.
        """
        cifar.write(directory, seed, train, test, classes, form)

    return write


WRITERS: dict[str, Any] = {
    "imagenet": imagenet.write,
    "cifar10": _cifar(10),
    "cifar100": _cifar(100),
    "ssv2": ssv2.write,
}


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; `args` defaults to the process's arguments.

    Raises:
        SystemExit: With 2 and one line on stderr when an argument is wrong or the directory cannot
            be written.
    """
    with bad_input(ArgumentError, ValueError, OSError):
        auto_cli(
            WRITERS,
            args=None if args is None else list(args),
            prog="attnlab demo-data",
            description="Small data sets of scanned digits in the layouts of the real ones.",
            exit_on_error=False,
        )
