"""The command line of the driver: `python run_ablation.py --study NAME`, and further commands."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from attnlab.ablation.commands.options import Trials
from attnlab.ablation.errors import UserError

PRELOAD = (
    "attnlab.cli",
    "attnlab.tasks.classification",
    "attnlab.data.base",
    "torch.utils.tensorboard",
)
"""What every trial imports, named only: the fork server imports it once for all of them."""

COMMANDS = {
    "run": "run what is missing from a study and report on it; so does naming no command",
    "status": "show what every trial is doing, of one study or of all",
    "reproduce": "print or run the one command that repeats a trial, and compare its metrics",
    "report": "report on what has finished, of one study or of all",
    "collect": "bring Optuna's journal of a study up to date with its run directories",
}
"""Every command is the module of that name in `commands`, with `add_arguments` and `run`."""

BAD_INPUT = 2
INTERRUPTED = 130


def main(
    args: Sequence[str] | None = None,
    *,
    module: str = "attnlab",
    preload: Sequence[str] = PRELOAD,
) -> int:
    """Run the driver and return its exit code.

    The code is 0 when every trial of the study has a result, 1 when some failed, 2 for bad input
    or a disk that cannot be written, and 130 when trials are missing because of an interruption.

    Args:
        args: The command line; `sys.argv[1:]` when None.
        module: What a trial runs by ``python -m``.
        preload: Modules that are imported once for all trials.
    """
    given = list(sys.argv[1:] if args is None else args)
    name = given.pop(0) if given and given[0] in COMMANDS else "run"
    command = importlib.import_module(f"attnlab.ablation.commands.{name}")
    parser = _parser(name)
    command.add_arguments(parser)
    options = parser.parse_args(given)
    try:
        code: int = command.run(options, Trials(module, tuple(preload)))
        return code
    except UserError as error:
        message = str(error)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        message = (
            f"{error.filename or options.output_dir}: {error.strerror}; finished trials are kept"
        )
    except KeyboardInterrupt:
        print("run_ablation: interrupted", file=sys.stderr)
        return INTERRUPTED
    for line in message.splitlines():
        print(f"run_ablation: error: {line}", file=sys.stderr)
    return BAD_INPUT


def _parser(name: str) -> argparse.ArgumentParser:
    listed = "\n".join(f"  {each:<10} {about}" for each, about in COMMANDS.items())
    epilog = (
        "Ctrl-C finishes the running trials, twice stops them; a second start goes on.\n\n"
        f"commands, named first; each has its own --help:\n{listed}"
    )
    return argparse.ArgumentParser(
        prog="run_ablation.py" + ("" if name == "run" else f" {name}"),
        description=(
            "Run an ablation study, or what is missing from it, and report on it."
            if name == "run"
            else f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."
        ),
        epilog=epilog if name == "run" else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
