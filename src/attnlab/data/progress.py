"""How far a long command is."""

import sys
import time

_EVERY_S = 10


class Progress:
    """Prints a line on stderr every few seconds.

    Args:
        name: What is being done.
        total: Number of steps.
    """

    def __init__(self, name: str, total: int) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self.start = self.shown = time.monotonic()

    def step(self, problems: int) -> None:
        """Count one step, and show how many problems there were so far."""
        self.done += 1
        now = time.monotonic()
        if now - self.shown < _EVERY_S:
            return
        self.shown = now
        rate = self.done / (now - self.start)
        left = (self.total - self.done) / rate / 60
        print(
            f"{self.name}: {self.done:,} of {self.total:,}, {problems} problems, {rate:,.0f}/s, "
            f"{left:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
