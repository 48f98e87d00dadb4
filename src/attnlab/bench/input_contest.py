"""Two processes, measured in turn on one core, and what their samples say."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attnlab.ablation.errors import UserError
from attnlab.bench.timing import Spread, ratios, spread

HERE = Path(__file__).parent

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""What torch and NumPy read when they are loaded."""


class Child:
    """A process that serves contestants, see `input_child`.

    Args:
        python: Its interpreter.
        script: File with the contestants.
        settings: What they are told.

    Raises:
        UserError: The interpreter is missing, or lacks a package, or the process ended.
    """

    def __init__(self, python: str, script: Path, settings: Mapping[str, Any]) -> None:
        self.python = python
        # -P: the files beside the script must not pass for packages of the same name.
        command = [python, "-P", str(HERE / "input_child.py"), str(script), json.dumps(settings)]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, "ATTNLAB_CACHE": settings["cache"], **ONE_THREAD},
            )
        except OSError as error:
            self._errors.close()
            raise UserError(f"{python} does not run: {error.strerror}") from error
        try:
            self.names = self._started()
        except UserError:
            self.close()
            raise

    def _started(self) -> list[str]:
        answer = self._answer()
        if "missing" in answer:
            raise UserError(
                f"{self.python} lacks what the benchmark compares with: {answer['missing']}; "
                "`python -m attnlab.bench peers --input` makes an environment"
            )
        names: list[str] = answer["ready"]
        return names

    def ask(self, name: str) -> dict[str, Any]:
        """Run a contestant once and return its value and seconds.

        Raises:
            UserError: It failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise UserError(f"{name}: {' '.join(answer['error'].split())}")
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines() or [""]
            raise UserError(f"{self.python} ended with {code}: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # its loop ends with its input
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


@dataclass(frozen=True)
class Entry:
    """One contestant in one race.

    Attributes:
        name: As its process knows it.
        label: As tables call it.
        ours: Whether it is this project's.
    """

    name: str
    label: str
    ours: bool


@dataclass(frozen=True)
class Result:
    """CPU milliseconds per item, in all rounds, and in units of the race's first entry.

    Attributes:
        entry: Whose they are.
        samples: Milliseconds of every round.
        against: Milliseconds of the unit in the same rounds.
    """

    entry: Entry
    samples: tuple[float, ...]
    against: tuple[float, ...]

    @property
    def best(self) -> float:
        """The least: what other work on the machine has added to least."""
        return min(self.samples)

    @property
    def ratio(self) -> float:
        """How many times as long as the unit it takes, by the least of each."""
        return self.best / min(self.against)

    @property
    def in_rounds(self) -> Spread:
        """The same in each round."""
        return spread(ratios(self.samples, self.against))


def race(entries: Sequence[Entry], ours: Child, peers: Child | None, rounds: int) -> list[Result]:
    """Run entries in turn, every round beginning with another, after one run that is not counted.

    Args:
        entries: Who takes part, the unit first; peers are left out where there is no process.
        ours: Serves this project's.
        peers: Serves the others.
        rounds: Samples of each.
    """
    there = [entry for entry in entries if entry.ours or peers is not None]
    samples: dict[Entry, list[float]] = {entry: [] for entry in there}
    for turn in range(-1, rounds):
        start = turn % len(there)
        for entry in there[start:] + there[:start]:
            child = ours if entry.ours or peers is None else peers
            answer = child.ask(entry.name)
            if turn >= 0:
                samples[entry].append(1e3 * answer["cpu_s"] / answer["value"])
    unit = tuple(samples[there[0]])
    return [Result(entry, tuple(samples[entry]), unit) for entry in there]
