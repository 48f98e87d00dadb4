"""A directory with a small study, and the driver on it as a process of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from attnlab.ablation.cli import main

STANZAS: dict[str, Any] = {
    "profiles": {
        "laptop": {
            "about": "nothing is trained",
            "bases": {"fake": "base.yaml"},
            "overrides": {"trainer.max_steps": 800},
            "minutes_per_cell": 3,
        }
    },
    "studies": {
        "value": {
            "question": "Which value?",
            "base": "fake",
            "axes": {"value": {"key": "model.value", "values": [0, 1]}},
            "baseline": {"value": 1},
            "seeds": [0, 1],
            "metric": "test/top1",
        }
    },
}
SOURCE = Path(__file__).parents[2] / "src"
"""What is tested, wherever another checkout may be installed."""
ALL = ["0 0", "0 1", "1 0", "1 1"]
REPORT = (
    "reported; value=0 seed 0: 0.0; value=1 seed 0: 0.1; "
    "value=0 seed 1: 0.01; value=1 seed 1: 0.11\n"
)
# The report has its own tests, and to import its libraries takes longer than a study here.
DRIVE = """
import sys, types
def write(study, profile, cells, results, out_dir, failures):
    scores = (f"{r.trial}: {r.record['metrics'][study.metric]}" for r in results)
    print("reported", *scores, sep="; ")
sys.modules["attnlab.ablation.report"] = types.SimpleNamespace(write=write)
from attnlab.ablation import launch, resources
from attnlab.ablation.cli import main
launch.GRACE_S = 0.5
launch.PAUSE_S = 0.0
resources.cores = lambda: 2
sys.exit(main(module="fake_trial", preload=["fake_trial"]))
"""


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


class Lab:
    """A directory with `ablations.yaml` and a base experiment, where studies of fakes run."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.root = root
        self.stanzas = yaml.safe_load(yaml.safe_dump(STANZAS))
        self.study = self.stanzas["studies"]["value"]
        self.directory = root / "runs/ablations/value/laptop"
        self.drivers: list[subprocess.Popen[str]] = []
        (root / "base.yaml").write_text("model: {value: 0, blocks: [{width: 1}]}\n")
        self.behave("")

    def behave(self, words: str) -> None:
        """Tell the fakes what to do."""
        (self.root / "behave").write_text(words)

    def write(self) -> None:
        """Write the stanzas down."""
        (self.root / "ablations.yaml").write_text(yaml.safe_dump(self.stanzas, sort_keys=False))

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the driver on the study in a session of its own."""
        self.write()
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVE, "--study", "value", "--workers", "2", *arguments],
            cwd=self.root,
            env={
                **os.environ,
                "FAKE_TRIALS": str(self.root / "trials"),
                "PYTHONPATH": f"{Path(__file__).parent}:{SOURCE}",
            },
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
            text=True,
            start_new_session=True,
        )
        self.drivers.append(driver)
        return driver

    def drive(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Run the driver to its end and return its exit code, output and errors."""
        return self.finish(self.start(*arguments, **options))

    def finish(self, driver: subprocess.Popen[str], seconds: float = 30.0) -> tuple[int, str, str]:
        """Return the exit code of a driver, the rest of its output, and its errors."""
        assert driver.stdout is not None
        assert driver.stderr is not None
        watchdog = threading.Timer(seconds, driver.kill)
        watchdog.start()
        out, err = driver.stdout.read(), driver.stderr.read()
        watchdog.cancel()
        assert "Traceback" not in err, err
        return driver.wait(timeout=20), out, err

    def read_until(self, driver: subprocess.Popen[str], text: str) -> None:
        """Read the output of a driver up to the line that holds `text`."""
        assert driver.stdout is not None
        while text not in (line := driver.stdout.readline()):
            assert line, f"the driver ended without saying {text!r}"

    def call(self, *arguments: str) -> tuple[int, str, str]:
        """Call the driver on the study in this process for what starts no trial."""
        return self.command("--study", "value", *arguments)

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Call the driver in this process with these arguments alone."""
        self.write()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            code = main(arguments, module="nothing", preload=())
        return code, *self.capsys.readouterr()

    def close(self) -> None:
        """Let go the fakes that wait, and kill the drivers that still run."""
        (self.root / "gate").touch()
        for driver in self.drivers:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
            for stream in (driver.stdout, driver.stderr):
                if stream is not None:
                    stream.close()

    def trainings(self) -> list[str]:
        """Return ``value seed`` of each training that has started so far, in order."""
        return [" ".join(line.split()[:2]) for line in self._lines("trials")]

    def checks(self) -> list[str]:
        """Return the value of each check that has started so far, in order."""
        return self._lines("checks")

    def _lines(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    def run_dir(self, value: int, seed: int) -> Path:
        """Return the run directory of a trial, which must exist."""
        (found,) = self.directory.glob(f"value={value}-*/seed{seed}")
        return found


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Lab]:
    """A lab, whose drivers do not outlive the test."""
    lab = Lab(tmp_path, capsys)
    yield lab
    lab.close()
