"""Which state of the code each run comes from."""

from dataclasses import dataclass

from attnlab.ablation.report import words
from attnlab.ablation.report.rows import Report


@dataclass(frozen=True)
class Source:
    """One state of the code, and what was run with it.

    Attributes:
        commit: Of git; empty outside a checkout.
        snapshot: Identity of the copy of the code that ran; empty where it was run in place.
        dirty: Whether it held uncommitted changes.
        runs: Runs that come from it.
        cells: Names of their cells, with the seeds where others come from elsewhere.
    """

    commit: str
    snapshot: str
    dirty: bool
    runs: int
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        """What tells it from others, in a few words."""
        commit = f"commit {self.commit[:10]}" if self.commit else "no commit"
        changed = " with uncommitted changes" if self.dirty else ""
        return f"{commit}{changed}{f', snapshot {self.snapshot}' if self.snapshot else ''}"


def sources(report: Report) -> list[Source]:
    """Return every state of the code that runs name, in the order of the grid."""
    whole = {row.cell.name: len(row.runs) for row in report.rows}
    return [
        Source(
            *state,
            runs=sum(map(len, cells.values())),
            cells=tuple(
                cell if len(seeds) == whole[cell] else words.seeds(cell, seeds)
                for cell, seeds in cells.items()
            ),
        )
        for state, cells in report.codes.items()
    ]
