"""Messages of jsonargparse as the user should read them."""

import re

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
