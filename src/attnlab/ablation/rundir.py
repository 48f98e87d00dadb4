"""The run directory is the truth: what a trial left behind says whether it finished.

| file | written by | meaning |
|---|---|---|
| `result.json` | trial, by atomic rename | it finished; without a valid one it did not |
| `progress.json` | trial | how far it is |
| `log.txt`, `log.<n>.txt` | driver, trial | command and output; earlier attempts, oldest first |
| `attempt.json`, `failure.json` | driver | the latest attempt, and why it failed (`attempts`) |
| `driver.json` | driver | what only the parent knows: wall time, trials at a time |
| `.lock` | trial, or what started it | held by `flock` while the trial lives |
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from attnlab.ablation.cells import Result, Trial
from attnlab.ablation.errors import UserError
from attnlab.files import write_atomically

LOCK = ".lock"
RESULT = "result.json"
LOG = "log.txt"
DRIVER = "driver.json"
PROMPT = "$ "
"""Opens the first line of a log, which is the command."""
PATIENCE_S = 5.0
"""How long a trial whose driver was killed may take to die."""
RESULT_SCHEMA = 1
_RESULT_FIELDS = {
    "metrics": dict,
    "steps": int,
    "epochs": int,
    "seed": int,
    "hparams": dict,
    "started": str,
    "finished": str,
    "timing": dict,
    "versions": dict,
    "hardware": dict,
    "git": dict,
}
_OF_ONE_ATTEMPT = (RESULT, "attempt.json", "failure.json", "PRUNE", ".*.tmp")
"""What not even a trial that goes on from a checkpoint finds of its earlier attempt."""
_OLD_LOG = re.compile(r"log\.(\d+)\.txt$")
_LOG_TAIL = 20_000
_ERROR_LINE = re.compile(r"(\w+\.)*(\w*(Error|Exception|Interrupt|Exit)\b|attnlab: error:)")


@dataclass(frozen=True)
class Progress:
    """How far a running trial is; a maximum below 1 means that there is none.

    Attributes:
        elapsed_s: Seconds that it took so far, all attempts together; None where it does not say.
    """

    step: int
    max_steps: int
    epoch: int
    max_epochs: int
    elapsed_s: float | None = None

    @property
    def fraction(self) -> float:
        """The share that is done, from 0 to 1; 0 where the trial has no end in sight."""
        done = [
            now / end
            for now, end in ((self.step, self.max_steps), (self.epoch, self.max_epochs))
            if end > 0
        ]
        return min(max(done, default=0.0), 1.0)

    def __str__(self) -> str:
        counts = (("step", self.step, self.max_steps), ("epoch", self.epoch, self.max_epochs))
        return ", ".join(f"{name} {now}/{end}" for name, now, end in counts if end > 0)


def read_result(trial: Trial) -> Result | None:
    """Return what a trial reached, or None if it did not finish.

    A torn or foreign `result.json` counts as none at all. A metric that is null was not finite.
    """
    record = _read_record(trial.run_dir, trial.seed)
    if record is None:
        return None
    driver = read_json(trial.run_dir / DRIVER)
    wall_s, workers = driver.get("wall_s"), driver.get("workers")
    return Result(
        trial,
        record,
        wall_s=wall_s if type(wall_s) is float else None,
        workers=workers if type(workers) is int else None,
    )


def finished(run_dir: Path, seed: int) -> bool:
    """Return whether the trial of `seed` in `run_dir` has left a valid result."""
    return _read_record(run_dir, seed) is not None


def read_progress(run_dir: Path) -> Progress | None:
    """Return how far the trial in `run_dir` is, or None before it has said so."""
    record = read_json(run_dir / "progress.json")
    counts = [record.get(key) for key in ("step", "max_steps", "epoch", "max_epochs")]
    known = [count for count in counts if type(count) is int]
    if len(known) != len(counts):
        return None
    step, max_steps, epoch, max_epochs = known
    elapsed_s = record.get("elapsed_s")
    known_s = float(elapsed_s) if isinstance(elapsed_s, int | float) else None
    return Progress(step, max_steps, epoch, max_epochs, known_s)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in `path`; an empty one if there is none or it is torn."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any], sync: bool = True) -> None:
    """Write `value` so that a reader finds the old file or the new one, whatever happens.

    Args:
        path: The file.
        value: What it shall hold.
        sync: Whether that includes that the machine crashes, for which the disk is waited for.
    """
    write_atomically(path, json.dumps(value, indent=1), sync)


def prepare(run_dir: Path, keep: bool) -> None:
    """Ready `run_dir` for another attempt of a trial that has not finished; the caller locks it.

    The log gets another name, ``log.<n>.txt``. A torn result, or one of another seed, goes.

    Args:
        run_dir: The directory; made when missing.
        keep: Whether to leave what the trial needs to go on: checkpoints, metrics, event files,
            and whatever else it wrote.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    old = {path.name: found for path in run_dir.iterdir() if (found := _OLD_LOG.match(path.name))}
    number = 1 + max((int(found[1]) for found in old.values()), default=0)
    for path in list(run_dir.iterdir()):
        stays = keep and not any(fnmatchcase(path.name, name) for name in _OF_ONE_ATTEMPT)
        if path.name == LOG:
            path.rename(run_dir / f"log.{number}.txt")
        elif stays or path.name == LOCK or path.name in old:
            continue
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def checkpoints(run_dir: Path) -> bool:
    """Return whether there is a checkpoint in `run_dir` that a trial may go on from."""
    return any(run_dir.rglob("*.ckpt"))


def log_tail(log: Path) -> str:
    """Return the end of `log`; nothing if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def last_error(log: Path) -> str:
    """Return the last line of `log` that reads like an error, or else its last line."""
    text = log_tail(log)
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if not line.startswith(PROMPT)]
    lines = [line for line in lines if line]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    return (errors or lines or [""])[-1]


@contextlib.contextmanager
def locked(path: Path, complaint: str, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`, waiting up to `patience_s` seconds for it.

    The lock belongs to the open file, so that the kernel gives it back however the process ends.

    Raises:
        UserError: Another process holds it; the message is `complaint` and that process.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
                    raise UserError(f"{complaint} by {holder or 'another process'}") from None
                time.sleep(0.05)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _read_record(run_dir: Path, seed: int) -> dict[str, Any] | None:
    record = read_json(run_dir / RESULT)
    if record.get("schema") != RESULT_SCHEMA or record.get("seed") != seed:
        return None
    if not all(isinstance(record.get(key), kind) for key, kind in _RESULT_FIELDS.items()):
        return None
    values = record["metrics"].values()
    if not all(value is None or type(value) in (int, float) for value in values):
        return None
    return record
