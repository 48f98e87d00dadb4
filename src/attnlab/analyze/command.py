"""``python -m attnlab analyze --ckpt FILE``: the redundancy of a trained network, in pictures."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlab.messages import bad_input

DESCRIPTION = """\
Say how redundant a trained network is: CKA between its layers, similarity, entropy and effective
rank of its kernels, and pictures of them, for every token mixer that has a kernel over tokens.
Arguments of `attnlab test` that are not listed here (--data.root DIR) are handed on to it."""


def _point(text: str) -> tuple[int, int]:
    row, column = text.split(",")
    return int(row), int(column)


_point.__name__ = "query"  # argparse names it in its message


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


_positive.__name__ = "positive integer"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnlab analyze",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--ckpt", type=Path, metavar="FILE", required=True, help="checkpoint that a fit has left")
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration of the run (default: config.yaml beside the checkpoint or above it)",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="where everything goes (default: analysis beside the configuration)",
    )
    add("--split", choices=("val", "test"), default="test", help="samples (default: %(default)s)")
    count: dict[str, Any] = {"type": _positive, "metavar": "N"}
    add("--samples", **count, default=256, help="samples for CKA (default: %(default)s)")
    add("--kernel_samples", **count, default=16, help="samples for kernels (default: %(default)s)")
    add("--max_queries", **count, default=196, help="queries per kernel (default: %(default)s)")
    add(
        "--queries",
        type=_point,
        nargs="+",
        metavar="ROW,COLUMN",
        help="pixels whose tokens' kernels are drawn (default: three)",
    )
    add("--image", type=int, metavar="N", default=0, help="sample to draw on (default: 0)")
    add("--device", default="auto", help="cpu, gpu or auto, as trainer.accelerator (default: auto)")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; `args` defaults to the process's arguments.

    Raises:
        SystemExit: With 2 and one line on stderr when an argument or a file is wrong.
    """
    options, further = _parser().parse_known_args(args)
    with bad_input(ValueError, OSError):
        if not 0 <= options.image < options.samples:
            raise ValueError(f"image={options.image} must be one of samples={options.samples}")
        if options.samples < 4:  # what CKA needs
            raise ValueError(f"samples={options.samples} must be at least 4")
        if not options.ckpt.is_file():
            raise FileNotFoundError(f"ckpt={str(options.ckpt)!r} is not there")
        options.config = options.config or _config_of(options.ckpt)
        if not options.config.is_file():
            raise FileNotFoundError(f"config={str(options.config)!r} is not there")
        options.out = options.out or options.config.parent / "analysis"
    # The trainer takes seconds to import: --help and wrong arguments do not wait for it.
    from attnlab.analyze.run import run

    run(options, further)


def _config_of(checkpoint: Path) -> Path:
    """Return the configuration of the run that left a checkpoint.

    Raises:
        FileNotFoundError: There is none in its directory, nor in the one above.
    """
    for directory in (checkpoint.parent, checkpoint.parent.parent):
        if (directory / "config.yaml").is_file():
            return directory / "config.yaml"
    raise FileNotFoundError(
        f"no config.yaml beside ckpt={str(checkpoint)!r} or above it; say where with --config"
    )
