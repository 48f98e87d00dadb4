"""Checkpoint files: written whole or not at all, and the newest one that can be read."""

import io
import operator
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from attnlab.files import write_atomically

STOPPED = "resume.ckpt"
"""What a run that was asked to stop leaves in its directory."""


class UnsavedCheckpointError(OSError):
    """A checkpoint could not be written; the message is one line."""


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, where Lightning copies it there.

    A process killed in between, or a disk that is full, leaves the previous checkpoint as it was.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write the file.

        Raises:
            UnsavedCheckpointError: The disk is full, or the directory cannot be written.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            write_atomically(Path(path), content.getvalue())
        except OSError as error:
            raise UnsavedCheckpointError(
                f"checkpoint {str(path)!r} could not be saved ({error.strerror}); the previous one "
                "is kept"
            ) from error


def _candidates(run_dir: Path) -> Iterator[tuple[float, Path]]:
    for path in run_dir.rglob("*.ckpt"):
        try:
            yield path.stat().st_mtime, path
        except OSError:  # removed meanwhile
            continue


def newest(run_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint below `run_dir` from which training can go on, and its content.

    It is the one that is furthest in the run that was begun last, whatever the clocks say that
    have dated the files; their dates decide between checkpoints of one step. Files that cannot be
    read, as a crash of the machine may leave them, are passed over with a warning; so are those
    that hold weights only, without one.
    """
    found = []
    for date, path in sorted(_candidates(run_dir)):
        try:  # the tensors stay on the disk
            content = torch.load(path, map_location="cpu", weights_only=False, mmap=True)
        except Exception as error:  # a pickle that is torn may raise any
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(f"skipped checkpoint {str(path)!r}: {reason}", stacklevel=2)
            continue
        if isinstance(content, dict) and {"loops", "optimizer_states"} <= content.keys():
            begun = content.get("callbacks", {}).get("RunRecord", {}).get("started", "")
            found.append(((begun, content["global_step"], date), path, content))
    return max(found, key=operator.itemgetter(0))[1:] if found else None
