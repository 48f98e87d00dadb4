"""What a person sees while a study runs: a live view in a terminal, plain lines elsewhere."""

import sys
from pathlib import Path
from typing import Self

from rich import progress

from attnlab.ablation import rundir
from attnlab.ablation.cells import Trial


class PlainView:
    """One line for each trial that ends.

    Args:
        total: Number of trials in the study.
        done: Number of those that had finished before this start.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total = total
        self._done = done
        self._failed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def say(self, text: str) -> None:
        """Show a line that stays."""
        print(text, flush=True)

    def started(self, trial: Trial) -> None:
        """Take note that `trial` has started."""

    def ended(self, trial: Trial, line: str, *, ok: bool) -> None:
        """Show how `trial` ended."""
        self._done += ok
        self._failed += not ok
        width = len(str(self._total))
        self.say(f"[{self._done + self._failed:{width}}/{self._total}] {line}")

    def tick(self) -> None:
        """Refresh whatever moves."""


class LiveView(PlainView):
    """The lines of `PlainView`, over a bar for the study and one for each running trial."""

    def __init__(self, total: int, done: int) -> None:
        super().__init__(total, done)
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=24),
            progress.TextColumn("{task.fields[detail]}", markup=False),
            progress.TimeElapsedColumn(),
            progress.TextColumn("ETA"),
            progress.TimeRemainingColumn(),
            speed_estimate_period=600.0,
        )
        self._all = self._bars.add_task("all trials", total=total, completed=done, detail="")
        self._running: dict[Path, progress.TaskID] = {}

    def __enter__(self) -> Self:
        self.tick()
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Show a line that stays, above the bars."""
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, trial: Trial) -> None:
        """Add a bar for `trial`."""
        self._running[trial.run_dir] = self._bars.add_task(str(trial), total=1.0, detail="starting")

    def ended(self, trial: Trial, line: str, *, ok: bool) -> None:
        """Turn the bar of `trial` into a line."""
        self._bars.remove_task(self._running.pop(trial.run_dir))
        super().ended(trial, line, ok=ok)

    def tick(self) -> None:
        """Read how far the running trials are."""
        ended = self._done + self._failed
        fractions = 0.0
        for run_dir, bar in self._running.items():
            if reached := rundir.read_progress(run_dir):
                fractions += reached.fraction
                self._bars.update(bar, completed=reached.fraction, detail=str(reached))
        queued = self._total - ended - len(self._running)
        counts = f"{self._done} done, {len(self._running)} running, {queued} queued"
        failed = f", {self._failed} failed" if self._failed else ""
        self._bars.update(self._all, completed=ended + fractions, detail=counts + failed)


def view(total: int, done: int) -> PlainView:
    """Return the view that suits the place where the output goes."""
    return (LiveView if sys.stdout.isatty() else PlainView)(total, done)
