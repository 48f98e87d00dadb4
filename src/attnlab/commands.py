"""Commands that train nothing: ``python -m attnlab NAME``, each without the trainer's imports."""

import importlib
from collections.abc import Sequence

COMMANDS = {
    "analyze": "attnlab.analyze.command",
    "demo-data": "attnlab.data.demo.command",
    "import-qna": "attnlab.interop.import_qna",
    "prepare": "attnlab.data.prepare",
    "validate-data": "attnlab.data.validation",
}
"""Names, and the modules whose `main` runs them."""

EPILOG = (
    "Other commands, each with a --help of its own: analyze (how redundant a trained network is), "
    "demo-data (small data sets on disk), validate-data (read a data set once and list what is "
    "wrong), prepare (a copy that is cheaper to read), import-qna (official QnA weights "
    "as a checkpoint)."
)


def run(args: Sequence[str]) -> bool:
    """Run the command that `args` begin with, and return whether it was one of these."""
    if not args or args[0] not in COMMANDS:
        return False
    importlib.import_module(COMMANDS[args[0]]).main(args[1:])
    return True
