"""``python -m tests.faults --faults 100 --cells 42``: a study under faults, and one without.

Exits with 0 if both have the same numbers, nothing is lost and nothing was done twice.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from attnlab.ablation import attempts
from tests.faults.campaign import Campaign, disk
from tests.faults.kinds import KINDS
from tests.faults.study import Study


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--cells", type=int, default=42, help="a multiple of 6, at least 12")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="default: standard output")
    options = parser.parse_args(arguments)
    faults = [*itertools.islice(itertools.cycle(KINDS), options.faults)]
    with tempfile.TemporaryDirectory(prefix="attnlab-faults-") as root:
        folder = Path(root) / "study"
        if options.log is None:
            return run(folder, options.cells, faults, options.seed, sys.stdout)
        with options.log.open("w") as log:
            return run(folder, options.cells, faults, options.seed, log)


def run(folder: Path, cells: int, faults: Sequence[str], seed: int, log: TextIO) -> int:
    """Run both studies, write the log with its summary, and return the exit code."""
    began = time.monotonic()
    calm = Study(folder, "calm", cells)
    done = calm.run("run", "--workers", "2")
    assert done.returncode == 0, done
    calm_s = time.monotonic() - began
    print(f"undisturbed: {len(calm.results())} cells in {calm_s:.0f} s", file=log, flush=True)
    with disk(folder / "disk") as full:
        campaign = Campaign(Study(folder, "disk/runs", cells), faults, seed, log, full)
        campaign.run()
        wrong = campaign.check(calm)
        finished = campaign.finished()
        lost = sum(campaign.scene.lost.values())
        tried = [attempts.read_attempt(path) for path in campaign.scene.study.run_dirs()]
        number = sum(each.number for each in tried if each)
        resumed = sum(each.resumed for each in tried if each)
    print(f"\n{sum(campaign.injected.values())} faults (seed {seed}):", file=log)
    for name, count in sorted(campaign.injected.items()):
        print(f"{count:5}  {name}", file=log)
    print(
        f"{campaign.starts} starts of the driver in {time.monotonic() - began - calm_s:.0f} s; "
        f"{number} attempts that notes are left of, {resumed} cells ended from a checkpoint; "
        f"{sum(finished.values())} trainings seen to finish, {lost} results destroyed by faults; "
        f"full disk by {'a small disk' if full else 'a limit on file sizes'}",
        file=log,
    )
    for line in wrong:
        print(f"WRONG: {line}", file=log)
    print(f"{cells} cells: {'all as undisturbed' if not wrong else 'NOT as undisturbed'}", file=log)
    log.flush()
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
