"""What a survey of a study shows to a person: counts, one line per cell, lines for some trials."""

import heapq
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnlab.ablation import cells, predict, rundir
from attnlab.ablation.plan import Plan
from attnlab.ablation.predict import Basis
from attnlab.ablation.states import State, TrialState

MANY_CELLS = 40
"""Beyond this only cells are shown that are neither complete nor untouched."""
LISTED = 20
"""Trials that are listed of each state, unless all are asked for."""
_ORDER = (State.RUNNING, State.FAILED, State.QUEUED)


@dataclass(frozen=True)
class Overview:
    """A study at one moment.

    Attributes:
        states: Of each trial, in the plan's order.
        basis: What is known of the duration of trials.
        planned: Number of trials of a search, which are not all known beforehand; None of a grid.
    """

    plan: Plan
    states: Sequence[TrialState]
    basis: Basis
    planned: int | None = None

    @property
    def total(self) -> int:
        """Number of all trials."""
        return max(len(self.states), self.planned or 0)

    @property
    def title(self) -> str:
        """The study in one line."""
        if self.planned is None:
            return self.plan.title
        study, profile = self.plan.study.name, self.plan.profile.name
        return f"search {study}, profile {profile}: {len(self.states)} of {self.total} trials begun"

    @property
    def counts(self) -> Mapping[State, int]:
        """Trials in each state."""
        found = Counter(each.state for each in self.states)
        return {state: found[state] for state in State}

    @property
    def summary(self) -> str:
        """The whole study in one line."""
        counts = self.counts
        parts = [f"{count:,} {state}" for state, count in counts.items() if count]
        if self.total > len(self.states):
            parts.append(f"{self.total - len(self.states):,} to come")
        bad = sum(self.score(each)[1] for each in self.states)
        share = 100 * counts[State.DONE] / max(1, self.total)
        left = self.minutes_left()
        return (
            f"{self.total:,} trials: {', '.join(parts)}; {share:.0f} % done"
            + (f"; {bad:,} of them failed: their metric is not finite" if bad else "")
            + ("" if left is None else f"; about {duration(left)} left")
        )

    def score(self, state: TrialState) -> tuple[float | None, bool]:
        """Return the study's metric where a trial is done, and whether it failed to be finite."""
        if state.result is None:
            return None, False
        value = cells.metric(state.result, self.plan.study)
        return value, value is None

    def trial_minutes_left(self, state: TrialState) -> float:
        """Return what a trial that is not done still takes: by its own speed if that is known."""
        whole = self.basis.of(state.trial.cell.key).minutes
        if state.state != State.RUNNING or state.progress is None:
            return whole
        done, spent_s = state.progress.fraction, state.progress.elapsed_s
        if spent_s is not None and done > 0.02:
            return spent_s / 60 * (1 - done) / done
        return whole * (1 - done)

    def minutes_left(self) -> float | None:
        """Return when what runs and waits will have ended; None where nothing runs."""
        ends = [self.trial_minutes_left(each) for each in self._in(State.RUNNING)]
        if not ends:
            return None
        heapq.heapify(ends)
        for each in self._in(State.QUEUED):
            heapq.heapreplace(ends, ends[0] + self.trial_minutes_left(each))
        return max(ends)

    def cell_rows(self, every: bool) -> tuple[list[tuple[str, ...]], str]:
        """Return the rows of a table of cells, and what it leaves out, if anything."""
        by_cell: dict[str, list[TrialState]] = {cell.key: [] for cell in self.plan.cells}
        for each in self.states:
            by_cell[each.trial.cell.key].append(each)
        few = every or len(by_cell) <= MANY_CELLS
        rows: list[tuple[str, ...]] = []
        complete = untouched = 0
        for found in by_cell.values():
            kinds = {each.state for each in found}
            if not few and kinds == {State.DONE}:
                complete += 1
            elif not few and kinds <= {State.MISSING, State.QUEUED}:
                untouched += 1
            elif few or len(rows) < MANY_CELLS:
                rows.append(self._cell_row(found))
        hidden = len(by_cell) - len(rows)
        left_out = f"{hidden:,} more cells: {complete:,} are complete, {untouched:,} have not begun"
        return rows, left_out if hidden else ""

    def trial_lines(self, every: bool) -> Iterator[str]:
        """Yield a line for each trial; where not for `every` one, for those of interest."""
        if every:
            yield from (f"{each.trial}: {self.describe(each)}" for each in self.states)
            return
        for state in _ORDER:
            found = self._in(state)
            yield from (f"{each.trial}: {self.describe(each)}" for each in found[:LISTED])
            if len(found) > LISTED:
                yield f"and {len(found) - LISTED:,} more {state} (--all lists them)"

    def describe(self, each: TrialState) -> str:
        """Return in one line what a trial is doing."""
        if each.state == State.DONE:
            metric = self.plan.study.metric
            value, bad = self.score(each)
            return f"done, {metric} is not finite" if bad else f"done, {metric} {value:.4g}"
        where = each.placement
        job = f" ({where.job})" if where is not None and where.job else ""
        if each.state == State.RUNNING:
            node = (where.node if where else "") or (each.attempt.node if each.attempt else "")
            live = " ".join(f"{name} {value:.4g}" for name, value in self._shown(each.metrics))
            left = self.trial_minutes_left(each) if each.progress else None
            parts = (
                f"on {node}{job}" if node else "",
                str(each.progress) if each.progress else "starting",
                f"{100 * each.progress.fraction:.0f} %" if each.progress else "",
                f"about {duration(left)} left" if left is not None else "",
                live,
            )
            return "running " + ", ".join(part for part in parts if part)
        if each.state == State.QUEUED:
            return f"queued{job}" + (f", {where.reason}" if where and where.reason else "")
        if each.state == State.FAILED and each.failure is not None:
            count = each.attempt.number if each.attempt else each.failure.attempt
            tries = f"{count} attempt{'s' * (count != 1)}"
            log = each.trial.run_dir / rundir.LOG
            return f"failed, {each.failure.kind}, {tries}: {each.failure.error} (log: {log})"
        return str(each.state) + (", was interrupted" if each.attempt else "")

    def record(self) -> dict[str, Any]:
        """Return everything for other programs."""
        left = self.minutes_left()
        done = self.counts[State.DONE]
        return {
            "study": self.plan.study.name,
            "profile": self.plan.profile.name,
            "metric": self.plan.study.metric,
            "counts": {str(state): count for state, count in self.counts.items()},
            "percent": 100 * done / max(1, self.total),
            "minutes_left": left,
            "trials": [self._trial_record(each) for each in self.states],
        }

    def _trial_record(self, each: TrialState) -> dict[str, Any]:
        def plain(value: Any) -> Any:
            return vars(value) if value is not None else None

        value, bad = self.score(each)
        return {
            "cell": dict(each.trial.cell.labels),
            "key": each.trial.cell.key,
            "seed": each.trial.seed,
            "run_dir": str(each.trial.run_dir),
            "state": each.state,
            "value": value,
            "not_finite": bad,
            "progress": plain(each.progress),
            "metrics": each.metrics,
            "attempt": plain(each.attempt),
            "failure": plain(each.failure),
            "placement": plain(each.placement),
        }

    def _cell_row(self, found: Sequence[TrialState]) -> tuple[str, ...]:
        values = [value for each in found if (value := self.score(each)[0]) is not None]
        spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
        count = Counter(each.state for each in found)
        others = (f"{count[state]} {state}" for state in State if state != State.DONE)
        return (
            found[0].trial.cell.name,
            f"{count[State.DONE]}/{len(found)}",
            f"{statistics.fmean(values):.4g}{spread}" if values else "",
            ", ".join(text for text in others if not text.startswith("0 ")),
        )

    def _shown(self, metrics: Mapping[str, float] | None) -> list[tuple[str, float]]:
        """Return up to two live metrics: the study's own on its validation set, and its loss."""
        if not metrics:
            return []
        name = self.plan.study.metric.rpartition("/")[2]
        wanted = dict.fromkeys((f"val/{name}", "val/loss", "train/loss"))
        return [(each, metrics[each]) for each in wanted if each in metrics][:2]

    def _in(self, state: State) -> list[TrialState]:
        return [each for each in self.states if each.state == state]


def of(plan: Plan, states: Sequence[TrialState], planned: int | None = None) -> Overview:
    """Return the overview of a survey; of a search `planned` is how many trials it has."""
    results = [each.result for each in states if each.result is not None]
    return Overview(plan, states, predict.basis(plan, results), planned)


def duration(minutes: float) -> str:
    """Return a time for people: its two largest units."""
    seconds = round(minutes * 60)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds // 60 % 60} min"
    return f"{seconds // 86400} d {seconds // 3600 % 24} h"
