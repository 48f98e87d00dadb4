"""A copy of the repository as it is now, which waiting and restarted trials run from.

A snapshot holds every file that git tracks or would track, uncommitted changes included. Beside
them lie `snapshot.json` (what it is a copy of) and `changes.patch` (what the commit lacks).
"""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from attnlab.ablation.errors import UserError

NAME = "snapshot.json"
PATCH = "changes.patch"
LARGE = 10 * 2**20
"""Bytes above which a file that git does not track is taken for data, and left out."""
NONE = "as it is, since there is no git repository to copy it from"
"""What the code is where there is no snapshot, in words."""
_GIT_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Snapshot:
    """A copy of a repository.

    Attributes:
        id: Twelve hexadecimal digits that identify its contents.
        root: The repository it is a copy of.
        path: Where the copy is, absolute.
        commit: What was checked out; empty before the first commit.
        branch: Its branch; empty where none was checked out.
        dirty: Whether it holds more than that commit.
        changed: Files that differ from the commit, new and deleted ones included.
    """

    id: str
    root: Path
    path: Path
    commit: str
    branch: str
    dirty: bool
    changed: tuple[str, ...]

    def __str__(self) -> str:
        commit = self.commit[:7] or "no commit"
        count = len(self.changed)
        return f"{commit} + {count} changed file{'s' * (count != 1)}" if count else commit

    def environment(self) -> dict[str, str]:
        """Return the variables of a process that runs this code."""
        return {"PYTHONPATH": str(self.path / "src")}

    def inside(self, path: Path) -> Path:
        """Return the copy of the file `path`, or `path` itself if there is none."""
        try:
            copy = self.path / path.resolve().relative_to(self.root)
        except ValueError:  # it lies elsewhere
            return path
        return copy if copy.exists() else path


def take(root: Path, folder: Path) -> Snapshot | None:
    """Copy the git repository around `root` to ``folder/<id>``.

    The same contents have the same place: a copy that is there already is used again. What git
    does not track is left out if it is larger than `LARGE`, or lies with `folder` in the directory
    of the runs. The snapshot of a snapshot is that one.

    Args:
        root: A directory in the repository.
        folder: Where the snapshots are; made when missing.

    Returns:
        The snapshot; None where `root` is in no git repository.

    Raises:
        UserError: git fails, or somebody has changed the copy that is there already.
        OSError: `folder` cannot be written.
    """
    if copy := _around(root.resolve()):
        return copy
    found = _git(root, "rev-parse", "--show-toplevel", check=False)
    if not found:
        return None
    top = Path(os.fsdecode(found).rstrip("\n")).resolve()
    folder = folder.resolve()
    runs = folder if folder.parent == top else folder.parent
    kept = {*_listed(top, "--cached"), *_untracked(top, runs)}
    files = sorted(kept)
    changed = tuple(name for name in _changed(top) if name in kept or not _there(top / name))
    path = folder / _identity(top, files)
    if path.exists():
        _check(path, files)
    else:
        path = _copy(top, files, folder)
    snapshot = Snapshot(
        id=path.name,
        root=top,
        path=path,
        commit=_line(_git(top, "rev-parse", "--verify", "--quiet", "HEAD", check=False)),
        branch=_line(_git(top, "symbolic-ref", "--quiet", "--short", "HEAD", check=False)),
        dirty=bool(changed),
        changed=changed,
    )
    _describe(snapshot)
    return snapshot


def _around(root: Path) -> Snapshot | None:
    """Return the snapshot that the directory `root` lies in, if so."""
    for top in (root, *root.parents):
        try:
            record = json.loads((top / NAME).read_bytes())
            return Snapshot(**{**record, "changed": tuple(record["changed"])}, root=top, path=top)
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return None


def _describe(snapshot: Snapshot) -> None:
    """Write down what `snapshot` is a copy of, unless it is said already that it is a commit."""
    path = snapshot.path / NAME
    if path.exists() and (snapshot.dirty or not json.loads(path.read_bytes())["dirty"]):
        return
    _replace(snapshot.path / PATCH, _patch(snapshot))
    record = dataclasses.asdict(snapshot)
    del record["root"], record["path"]  # which are those of this machine
    _replace(path, json.dumps(record, indent=1).encode())


def _copy(top: Path, files: Iterable[str], folder: Path) -> Path:
    """Copy `files` and return where they are; a reader never meets a part of them."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        copied = []
        for name in files:
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copy2(top / name, target, follow_symlinks=False)
            except FileNotFoundError:  # deleted meanwhile
                continue
            copied.append(name)
        # Someone may be editing the files: what counts is what has been copied.
        path = folder / _identity(temporary, copied)
        try:
            temporary.rename(path)
        except OSError:  # another driver was faster
            if not path.exists():
                raise
        return path
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(path: Path, files: Iterable[str]) -> None:
    """Refuse a copy that holds other contents by now, or lost some as the machine crashed."""
    try:
        intact = _identity(path, files) == path.name
    except FileNotFoundError:
        intact = False
    if not intact:
        raise UserError(f"{path} is no longer the copy it was made as; remove it for a new one")


def _identity(top: Path, files: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        path = top / name
        if path.is_symlink():
            kind, content = b"link", os.fsencode(path.readlink())
        else:
            kind = b"run" if os.access(path, os.X_OK) else b"file"
            content = path.read_bytes()
        digest.update(b"%s %d %s\0" % (kind, len(content), os.fsencode(name)))
        digest.update(content)
    return digest.hexdigest()[:12]


def _listed(top: Path, *which: str) -> Iterator[str]:
    """Yield files by their path in the repository; deleted ones and sub-modules are none."""
    for name in _names(_git(top, "ls-files", "-z", "--exclude-standard", *which)):
        if _there(top / name):
            yield name


def _untracked(top: Path, runs: Path) -> Iterator[str]:
    for name in _listed(top, "--others"):
        path = top / name
        if not path.is_relative_to(runs) and path.lstat().st_size <= LARGE:
            yield name


def _changed(top: Path) -> list[str]:
    """Return all files that differ from the commit, or are new."""
    options = ("-z", "--no-renames", "--untracked-files=all")
    return sorted(line[3:] for line in _names(_git(top, "status", "--porcelain=v1", *options)))


def _patch(snapshot: Snapshot) -> bytes:
    """Return the difference to the commit, new files included."""
    if not snapshot.commit:
        return b""
    top = snapshot.root
    index = Path(_line(_git(top, "rev-parse", "--absolute-git-dir"))) / "index"
    with tempfile.TemporaryDirectory(prefix="attnlab-") as folder:
        environment = {"GIT_INDEX_FILE": f"{folder}/index"}
        if index.exists():  # a copy: the user's own index stays as it is
            shutil.copy2(index, environment["GIT_INDEX_FILE"])
        if new := [name for name in snapshot.changed if _there(top / name)]:
            paths = "".join(f"{name}\0" for name in new)
            reading = ("--pathspec-from-file=-", "--pathspec-file-nul")
            _git(top, "add", "--intent-to-add", *reading, text=paths, environment=environment)
        return _git(top, "diff", "--binary", "HEAD", environment=environment)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _there(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _names(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def _line(output: bytes) -> str:
    return os.fsdecode(output).strip()


def _git(
    top: Path,
    *arguments: str,
    check: bool = True,
    text: str = "",
    environment: dict[str, str] | None = None,
) -> bytes:
    """Return what git prints; nothing if it fails and need not succeed."""
    command = ["git", "-C", str(top), "--no-optional-locks", "--literal-pathspecs", *arguments]
    try:
        done = subprocess.run(
            command,
            input=os.fsencode(text),
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError:
        return b""
    except subprocess.TimeoutExpired:
        raise UserError(f"git {arguments[0]} took over {_GIT_TIMEOUT_S:.0f} s in {top}") from None
    if done.returncode and check:
        reason = os.fsdecode(done.stderr).strip().splitlines() or ["no reason given"]
        raise UserError(f"git {arguments[0]} fails in {top}: {reason[-1]}")
    return b"" if done.returncode else done.stdout
