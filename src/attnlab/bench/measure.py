"""One cell of the operator benchmark: every subject's time and memory, or why there is none."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from attnlab.bench.memory import inference_call, peak_bytes, saved_bytes, training_call
from attnlab.bench.subjects import UNIT, Cell, Setting, Subject
from attnlab.bench.timing import Spread, interleave, ratios, seconds, spread, synchronise

FORWARD, TRAINING, MEMORY = "forward", "training", "memory"
Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Time of one call, in seconds and in units of that of the unit subject."""

    seconds: Spread
    ratio: Spread | None


@dataclass(frozen=True)
class Row:
    """What was measured of one subject in one cell; None where it did not run.

    Attributes:
        cell: Map and window.
        subject: Its name.
        forward: Time without autograd.
        training: Time of forward and backward.
        saved: Bytes kept for the backward, parameters not counted.
        forward_peak: Bytes allocated at most in a forward without autograd.
        training_peak: The same in a forward and backward.
        notes: Why something is missing: (forward or training, reason).
    """

    cell: Cell
    subject: str
    forward: Timing | None = None
    training: Timing | None = None
    saved: int | None = None
    forward_peak: int | None = None
    training_peak: int | None = None
    notes: dict[str, str] = field(default_factory=dict)


@dataclass
class Limits:
    """Keeps cells out that would take too long or too much memory.

    Time and memory of a cell are foretold from the largest cell that the same subject has run, the
    memory of the first cell from its formula.

    Attributes:
        max_s: Seconds that one call may take.
        max_bytes: Memory that a training step may take.
        unit: Subject that all ratios are to, which is never kept out.
    """

    max_s: float
    max_bytes: float
    unit: str = UNIT
    known: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def note(self, subject: Subject, mode: str, work: float, taken_s: float) -> None:
        """Remember what a call has taken."""
        self._note(subject.name, mode, work, taken_s)

    def weigh(self, subject: Subject, setting: Setting, cell: Cell, peak: int) -> None:
        """Remember what a training step has allocated."""
        self._note(subject.name, MEMORY, subject.memory(setting, cell), peak)

    def _note(self, name: str, what: str, expected: float, found: float) -> None:
        if expected >= self.known.get((name, what), (0.0, 0.0))[0]:
            self.known[name, what] = (expected, found)

    def reason(self, subject: Subject, mode: str, setting: Setting, cell: Cell) -> str:
        """Return why a subject should not run, empty if it may."""
        if subject.name == self.unit:  # the others are measured in units of it
            return ""
        formula, peak = self.known.get((subject.name, MEMORY), (1.0, 1.0))
        memory = subject.memory(setting, cell) * peak / formula
        if memory > self.max_bytes:
            return f"skipped: about {memory / 2**30:.1f} GiB"
        work, taken = self.known.get((subject.name, mode), (1.0, 0.0))
        expected = taken * subject.work(setting, cell) / work
        return f"skipped: about {expected:.0f} s" if expected > self.max_s else ""


def measure(
    setting: Setting,
    cell: Cell,
    subjects: Sequence[Subject],
    limits: Limits,
    rounds: int,
    budget_s: float,
) -> list[Row]:
    """Return a row per subject, all of them timed side by side."""
    calls: dict[str, dict[str, Call]] = {FORWARD: {}, TRAINING: {}}
    rows = []
    for subject in subjects:
        row = Row(cell, subject.name)
        for mode in (FORWARD, TRAINING):
            reason = row.notes.get(FORWARD) or limits.reason(subject, mode, setting, cell)
            if not reason:
                try:
                    call, row = _prepare(subject, mode, setting, cell, limits, row)
                    calls[mode][subject.name] = call
                except Exception as error:  # whatever stops a peer is a result, not our failure
                    lines = str(error).splitlines() or [""]
                    reason = f"fails: {type(error).__name__}: {lines[0]}"
            if reason:
                row = replace(row, notes=row.notes | {mode: reason})
        rows.append(row)
    samples = {mode: interleave(calls[mode], setting.device, rounds, budget_s) for mode in calls}
    for mode, subject in itertools.product(samples, subjects):
        if times := samples[mode].get(subject.name):
            limits.note(subject, mode, subject.work(setting, cell), min(times))
    timings = {mode: _timings(samples[mode], limits.unit) for mode in samples}
    return [
        replace(
            row,
            forward=timings[FORWARD].get(row.subject),
            training=timings[TRAINING].get(row.subject),
        )
        for row in rows
    ]


def _prepare(
    subject: Subject, mode: str, setting: Setting, cell: Cell, limits: Limits, row: Row
) -> tuple[Call, Row]:
    """Warm a call up, weigh it, and return it with the row so far."""
    module, x = subject.module(setting, cell), subject.tokens(setting, cell)
    module.train(mode == TRAINING)  # what may be kept between calls in evaluation is
    call = (inference_call if mode == FORWARD else training_call)(module, x)
    call()  # compiles where there is something to compile
    begun = time.perf_counter()
    peak = peak_bytes(call, setting.device)
    taken = time.perf_counter() - begun
    if taken < limits.max_s:  # the profiler was part of that
        taken = seconds(call, setting.device)
    limits.note(subject, mode, subject.work(setting, cell), taken)
    if mode == FORWARD:
        return call, replace(row, forward_peak=peak)
    limits.weigh(subject, setting, cell, peak)
    return call, replace(row, training_peak=peak, saved=_saved(module, subject, setting, cell))


def _saved(module: nn.Module, subject: Subject, setting: Setting, cell: Cell) -> int:
    x = subject.tokens(setting, cell).requires_grad_()
    saved = saved_bytes(lambda: module(x), without=module.parameters())
    synchronise(setting.device)
    return saved


def _timings(samples: dict[str, list[float]], unit_name: str) -> dict[str, Timing]:
    unit = samples.get(unit_name)
    return {
        name: Timing(spread(times), spread(ratios(times, unit)) if unit else None)
        for name, times in samples.items()
    }
