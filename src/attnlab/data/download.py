"""Published archives: fetched only when asked for, and known by their MD5."""

import hashlib
import http.client
import urllib.request
import uuid
from pathlib import Path
from typing import NamedTuple

_CHUNK = 1 << 20
_TIMEOUT_S = 60


class Archive(NamedTuple):
    """A published file.

    Attributes:
        url: Where its authors offer it.
        md5: Its MD5, which they publish beside it.
        size: Its size in bytes.
    """

    url: str
    md5: str
    size: int

    @property
    def name(self) -> str:
        """Return its file name."""
        return self.url.rpartition("/")[2]


def check(path: Path, archive: Archive) -> None:
    """Check that a file is the published one.

    Raises:
        ValueError: It is not; the message tells a truncated download from another file.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    _compare(str(path), found, path.stat().st_size, archive)


def _compare(where: str, md5: str, size: int, archive: Archive) -> None:
    if md5 == archive.md5:
        return
    cause = "truncated download" if size < archive.size else "not the published file"
    raise ValueError(
        f"{where}: {cause}: MD5 {archive.md5} expected, got {md5}; "
        f"{archive.size:,} bytes expected, got {size:,}"
    )


def download(archive: Archive, folder: Path) -> Path:
    """Fetch an archive; its file appears under its name only when whole and right.

    Args:
        archive: What to fetch.
        folder: Where to put it; made if missing.

    Returns:
        The file's path.

    Raises:
        ConnectionError: It cannot be fetched.
        ValueError: What came is not the published file.
        OSError: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / archive.name
    part = folder / f".{archive.name}.{uuid.uuid4().hex}.part"
    digest, size = hashlib.md5(usedforsecurity=False), 0
    try:
        with part.open("xb") as file, _open(archive) as response:
            while chunk := _read(response, archive):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        _compare(archive.url, digest.hexdigest(), size, archive)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _open(archive: Archive) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(archive.url, timeout=_TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise _unreachable(archive, error) from error
    return response


def _read(response: http.client.HTTPResponse, archive: Archive) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(archive, error) from error


def _unreachable(archive: Archive, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"{archive.url} cannot be downloaded ({error}): fetch {archive.name} where there is a "
        "connection and put it into the root"
    )
