"""Errors as the user should read them: one line."""

import contextlib
import re
import sys
from collections.abc import Iterator

BAD_INPUT = 2
"""Exit code of a command whose arguments or data are wrong."""

_NOISE = re.compile(
    r"(- )?(Expected a <class 'NoneType'>|Given value|Subtypes:|Errors:|Does not validate"
    r"|Parser key|Problem with given class_path)"
)


def one_line(message: str) -> str:
    """Return the innermost cause in jsonargparse's nested message, behind its full key."""
    keys = re.findall(r'Parser key "([\w.]+)"', message)
    lines = [line for line in message.splitlines() if line and not _NOISE.match(line.lstrip())]
    indents = [len(line) - len(line.lstrip()) for line in lines]
    causes = [line for line, indent in zip(lines, indents, strict=True) if indent == max(indents)]
    cause = causes[-1].strip().removeprefix("- ") if causes else " ".join(message.split())
    return f"{'.'.join(keys)}: {cause}" if keys else cause


@contextlib.contextmanager
def bad_input(*kinds: type[Exception]) -> Iterator[None]:
    """End the process with one line on stderr and code 2 where an error of `kinds` is raised.

    The line is that of `one_line`, or the last one where a worker process sent its traceback along.

    Raises:
        SystemExit: Such an error was raised.
    """
    try:
        yield
    except kinds as error:
        text = str(error).strip() or type(error).__name__
        cause = text.splitlines()[-1] if "Traceback" in text else one_line(text)
        print(f"attnlab: error: {cause}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None
