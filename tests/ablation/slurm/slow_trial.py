"""A stand-in for `python -m attnlab` that can be stopped and goes on from its checkpoint.

It takes STEPS steps and keeps to the contract of the run directory and of the exit codes. A file
`behave` beside the file of the environment variable FAKE_TRIALS holds words such as `raise1`: what
a trial does whose `model.value` is 1. A trial with `hold` stays at its middle step until there is
a file `gate`. Each start adds a line ``value seed node step`` to FAKE_TRIALS.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from tests.ablation.fake_trial import _flags, record

STEPS = 10
STOPPED = 75


def main() -> None:
    assert sys.argv[1] == "fit", sys.argv
    flags = _flags(sys.argv[2:])
    if "check" in flags:
        return
    value, seed = int(flags["model.value"]), int(flags["seed_everything"])
    run_dir, trials = Path(flags["run_dir"]), Path(os.environ["FAKE_TRIALS"])
    behave = trials.with_name("behave").read_text().split()
    gate = trials.with_name("gate")
    told = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: told.append(number))
    checkpoint = run_dir / "last.ckpt"
    step, state = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, seed)
    with trials.open("a") as log:
        log.write(f"{value} {seed} {os.environ['SLURMD_NODENAME']} {step}\n")
    if f"raise{value}" in behave:
        raise RuntimeError(f"value {value} blew up")
    while step < STEPS:
        step, state = step + 1, (state * 31 + value + step) % 1009
        checkpoint.with_suffix(".tmp").write_text(json.dumps([step, state]))
        checkpoint.with_suffix(".tmp").rename(checkpoint)
        progress = {"epoch": 0, "max_epochs": 1, "step": step, "max_steps": STEPS}
        (run_dir / "progress.json").write_text(json.dumps(progress))
        held = f"hold{value}" in behave and step == STEPS // 2
        while held and not gate.exists() and not told:
            time.sleep(0.02)
        if told:
            sys.exit(STOPPED)
    checkpoint.unlink()
    content = record(float(state), seed, json.loads(flags["hparams"]))
    (run_dir / "result.tmp").write_text(json.dumps(content))
    (run_dir / "result.tmp").rename(run_dir / "result.json")


def expected(value: int, seed: int) -> float:
    """Return the metric of an undisturbed trial."""
    state = seed
    for step in range(STEPS):
        state = (state * 31 + value + step) % 1009
    return float(state)


if __name__ == "__main__":
    main()
