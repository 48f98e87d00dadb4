"""``python -m attnlab.bench COMMAND``: every command is a module of its own."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from attnlab.ablation.errors import UserError

COMMANDS = {
    "operators": "latency and memory of QnA and its peers against window and map size",
    "networks": "QnA-ViT tiny against a Swin of equal cost built from the same blocks",
    "scaling": "time and memory of LiSA and its global peers against the number of tokens",
    "dispatch": "when LiSA is faster dense and when by FFTs; writes the cost model it chooses by",
    "input": "input pipeline against torchvision, timm and torchcodec, in processes of their own",
    "peers": "make an environment with the peers that must not share the project's",
}
"""Modules of this package, each with `add_arguments(parser)` and `run(options, arguments)`."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and leave with 2."""
        print(f"attnlab.bench: error: {message}", file=sys.stderr)
        raise SystemExit(2)


def main(args: Sequence[str] | None = None) -> int:
    """Run a benchmark; `args` defaults to the process's arguments.

    Returns:
        0, or 2 after one line on stderr when something asked for cannot be.
    """
    # The profiler, which measures memory, reports its own starts on stderr; read when torch loads.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    arguments = sys.argv[1:] if args is None else list(args)
    parser = Parser(prog="attnlab.bench", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = arguments[0] if arguments else ""
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        if name == chosen:  # the others' imports are not needed to refuse or to list them
            module = importlib.import_module(f"attnlab.bench.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options, arguments))
    except UserError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or ''}: {error.strerror or error}"
    print(f"attnlab.bench: error: {message}", file=sys.stderr)
    return 2
