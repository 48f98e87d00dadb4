"""A PostgreSQL server of the tests' own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps it out of the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((each for each in reversed(folders) if (each / "initdb").exists()), None)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a database in a private cluster, which is gone after the tests."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    owner: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="attnlab-postgres-"))
    if os.geteuid() == 0:  # as which it refuses to run
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        owner = ["runuser", "-u", "postgres", "--"]
    port = _free_port()

    def call(program: str, *arguments: str) -> None:
        line = [*owner, str(binaries / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(
            line, cwd=folder, check=True, timeout=60, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server would hold a pipe open
        )  # fmt: skip

    try:
        call("initdb", "--no-sync", "-A", "trust", "-U", "tests")
        settings = f"-p {port} -h 127.0.0.1 -k {folder} -F -c shared_buffers=16MB"
        call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start")
        yield f"postgresql://tests@127.0.0.1:{port}/postgres"
        call("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
