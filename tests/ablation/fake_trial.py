"""A stand-in for `python -m attnlab`, which the trials of the driver's tests run.

It keeps to the contract of the run directory and trains nothing. A file `behave` beside the file
of the environment variable FAKE_TRIALS holds words such as `raise1`: what a trial does whose
`model.value` is 1. Each start adds a line to FAKE_TRIALS, each check one to `checks` beside it.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

RECORD: dict[str, Any] = {
    "schema": 1,
    "steps": 10,
    "epochs": 1,
    "started": "2026-01-02T03:04:05+00:00",
    "finished": "2026-01-02T03:04:15+00:00",
    "timing": {"total_s": 30.0, "loop_s": 29.0, "overhead_s": 1.0},
    "versions": {},
    "hardware": {},
    "git": {},
}


VALIDATIONS = 4


def record(value: float | None, seed: int, hparams: dict[str, Any]) -> dict[str, Any]:
    """Return what a finished trial writes."""
    return {**RECORD, "metrics": {"test/top1": value}, "seed": seed, "hparams": hparams}


def _validate(run_dir: Path, score: float) -> bool:
    """Leave a learning curve, and return whether the trial was given up meanwhile."""
    for number in range(1, VALIDATIONS + 1):
        line = {"step": 10 * number, "epoch": number, "val/top1": score * number / VALIDATIONS}
        with (run_dir / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        time.sleep(0.5)
        if (run_dir / "PRUNE").exists():
            return True
    return False


def _flags(arguments: list[str]) -> dict[str, str]:
    flags = {}
    words = iter(arguments)
    for word in words:
        name, separator, value = word.removeprefix("--").partition("=")
        flags[name] = value if separator else next(words)
    return flags


def _wait(gate: Path) -> None:
    while not gate.exists():
        time.sleep(0.02)


def main() -> None:
    assert sys.argv[1] == "fit", sys.argv
    flags = _flags(sys.argv[2:])
    value, seed = flags["model.value"], int(flags["seed_everything"])
    run_dir, trials = Path(flags["run_dir"]), Path(os.environ["FAKE_TRIALS"])
    behave = trials.with_name("behave").read_text().split()
    if "check" in flags:
        with trials.with_name("checks").open("a") as checks:
            checks.write(f"{value}\n")
        if f"hold{value}" in behave:
            _wait(trials.with_name("gate"))
        if not value.isdigit():
            sys.exit(f"attnlab: error: model.value: expected an int, got {value!r}")
        return
    found = {path.name for path in run_dir.iterdir()}
    kept = {".lock", "attempt.json"}
    assert all(name in kept or name.startswith("log") for name in found), found
    (run_dir / "checkpoints").mkdir()
    progress = {"epoch": 0, "max_epochs": 1, "step": 5, "max_steps": 10}
    (run_dir / "progress.json").write_text(json.dumps(progress))
    with trials.open("a") as log:
        log.write(f"{value} {seed} {os.getpid()}\n")
    print(f"training with {os.environ['OMP_NUM_THREADS']} threads")
    print("on cores", *sorted(os.sched_getaffinity(0)))
    print("imported already:", *(name for name in sys.modules if name.startswith("attnlab.")))
    if f"stubborn{value}" in behave:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if {f"wait{value}", f"stubborn{value}"} & set(behave):
        _wait(trials.with_name("gate"))
    if f"stall{value}" in behave or (f"stop{value}" in behave and "log.1.txt" not in found):
        sys.exit(75)
    if f"memory{value}" in behave:
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    if f"raise{value}" in behave:
        raise RuntimeError(f"value {value} blew up")
    if f"kill{value}" in behave:
        os.kill(os.getpid(), signal.SIGKILL)
    score = None if f"null{value}" in behave else int(value) / 10 + seed / 100
    content = record(score, seed, json.loads(flags["hparams"]))
    if {"val", "validate"} & set(behave):
        content["metrics"]["val/top1"] = score
    if "validate" in behave and _validate(run_dir, score or 0.0):
        content["pruned"] = True
        del content["metrics"]["test/top1"]
    if f"diverge{value}" in behave:  # NaN logits have an argmax, and so an accuracy
        content["metrics"]["test/loss"] = None
    result = json.dumps(content)
    if f"torn{value}" in behave:
        result = result[:-10]
    (run_dir / "result.tmp").write_text(result)
    (run_dir / "result.tmp").rename(run_dir / "result.json")
    if f"late{value}" in behave:
        sys.exit(3)


if __name__ == "__main__":
    main()
