"""Downloads from a server of our own."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnlab.data.download import Archive, check, download

CONTENT = b"not much of an archive" * 7919
MD5 = hashlib.md5(CONTENT).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing.tar.gz":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:4001] if self.path == "/cut.tar.gz" else CONTENT)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_whole_file_appears_under_its_name(server: str, tmp_path: Path):
    archive = Archive(f"{server}/good.tar.gz", MD5, len(CONTENT))
    path = download(archive, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "good.tar.gz"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    check(path, archive)


@pytest.mark.parametrize(
    ("name", "md5", "size", "error", "message"),
    [
        (
            "cut",
            MD5,
            len(CONTENT),
            ValueError,
            rf"/cut.tar.gz: truncated download: MD5 {MD5} expected, got "
            rf"{hashlib.md5(CONTENT[:4001]).hexdigest()}; 174,218 bytes expected, got 4,001$",
        ),
        ("good", "0" * 32, len(CONTENT), ValueError, "good.tar.gz: not the published file: MD5 00"),
        (
            "missing",
            MD5,
            len(CONTENT),
            ConnectionError,
            r"missing.tar.gz cannot be downloaded \(HTTP Error 404: Not Found\): fetch missing.tar",
        ),
    ],
)
def test_nothing_is_left_of_a_bad_download(
    server: str, tmp_path: Path, name: str, md5: str, size: int, error: type, message: str
):
    with pytest.raises(error, match=message):
        download(Archive(f"{server}/{name}.tar.gz", md5, size), tmp_path)
    assert not any(tmp_path.iterdir())


def test_being_offline_is_one_line(tmp_path: Path):
    archive = Archive("http://127.0.0.1:9/good.tar.gz", MD5, len(CONTENT))
    with pytest.raises(ConnectionError, match=r"cannot be downloaded \(.*refused.*\): fetch good"):
        download(archive, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_file_that_is_another_is_told_from_one_cut_short(tmp_path: Path):
    path = tmp_path / "good.tar.gz"
    path.write_bytes(CONTENT[:-1] + b"!")
    archive = Archive("https://example.org/good.tar.gz", MD5, len(CONTENT))
    with pytest.raises(ValueError, match=rf"^{path}: not the published file: MD5 {MD5} expected"):
        check(path, archive)
    path.write_bytes(CONTENT[:1009])
    with pytest.raises(ValueError, match=rf"^{path}: truncated download: .* got 1,009$"):
        check(path, archive)
