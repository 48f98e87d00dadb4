"""``python -m attnlab prepare imagenet | ssv2``: copies of data sets that are cheaper to read."""

import argparse
import importlib
from collections.abc import Sequence

COMMANDS = {
    "imagenet": "attnlab.data.image.shrink",
    "ssv2": "attnlab.data.video.convert",
}
"""Data sets and the modules whose `main` prepares them."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; `args` defaults to the process's arguments.

    Raises:
        SystemExit: With 2 and one line on stderr when an argument or the data are wrong.
    """
    parser = argparse.ArgumentParser(
        prog="attnlab prepare",
        description="Write a copy of a data set that is cheaper to read: imagenet as smaller "
        "images, ssv2 as archives of frames. `attnlab prepare imagenet --help` says more.",
        allow_abbrev=False,
    )
    parser.add_argument("set", choices=COMMANDS, help="data set")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    options = parser.parse_args(args)
    importlib.import_module(COMMANDS[options.set]).main(options.rest)
