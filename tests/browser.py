"""A page in headless Chromium, driven through two pipes by its remote debugging protocol."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-pipe", "--hide-scrollbars", "--enable-unsafe-swiftshader"),
)
# Chromium reads commands from descriptor 3 and answers on 4.
START = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
for target, pipe in enumerate(pipes, 3):
    os.dup2(pipe, target)
os.execv(sys.argv[3], sys.argv[3:])
"""
TEXT = """
(function text(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  if (["SCRIPT", "STYLE", "TEMPLATE"].includes(node.nodeName)) return "";
  const inside = [node.shadowRoot, ...node.childNodes].filter(Boolean);
  return inside.map(text).join(" ");
})(document.body || document)
"""


def find() -> str | None:
    """Return where Chromium is, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One page; every command is answered within `seconds`."""

    def __init__(self, commands: int, answers: int, seconds: float) -> None:
        self._commands, self._answers, self._seconds = commands, answers, seconds
        self._buffer, self._number = b"", 0
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of a command."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + self._seconds
        while True:
            answer = self._read(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self._answers], [], [], left)[0], "Chromium does not answer"
            chunk = os.read(self._answers, 1 << 16)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, url: str) -> None:
        """Go to `url`."""
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self) -> str:
        """Return all text, that in shadow roots included, a space between any two parts."""
        return " ".join(self.evaluate(TEXT).split())

    def wait_for(self, text: str) -> str:
        """Return all text once `text` is in it."""
        deadline = time.monotonic() + self._seconds
        while text not in (found := self.text()):
            assert time.monotonic() < deadline, f"no {text!r} in {found!r}"
            time.sleep(0.1)
        return found

    def picture(self, path: Path) -> None:
        """Save what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def page(
    folder: Path, width: int = 1280, height: int = 800, seconds: float = 60.0
) -> Iterator[Page]:
    """Open a page in a browser of its own, whose data lie in `folder`."""
    chromium = find()
    assert chromium is not None
    theirs, commands = os.pipe()
    answers, ours = os.pipe()
    arguments = [chromium, *FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"]
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(theirs), str(ours), *arguments],
        pass_fds=(theirs, ours),
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(ours)
    try:
        yield Page(commands, answers, seconds)
    finally:
        process.kill()
        process.wait()
        os.close(commands)
        os.close(answers)
