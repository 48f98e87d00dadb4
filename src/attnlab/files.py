"""Files that are either whole or not there."""

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, content: str | bytes, sync: bool = True) -> None:
    """Write `content` to `path` so that a reader, or a crash, never sees a part of it.

    Args:
        path: The file.
        content: What it shall hold.
        sync: Whether to wait until it is on the disk: the crash may then be the machine's.

    Raises:
        OSError: The directory cannot be written or the disk is full; `path` is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
