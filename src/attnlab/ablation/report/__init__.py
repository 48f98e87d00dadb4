"""The report of a study; what draws and computes is imported only when one is written."""

from collections.abc import Sequence
from pathlib import Path

from attnlab.ablation.cells import Cell, Result
from attnlab.ablation.schema import Profile, Study


def write(
    study: Study,
    profile: Profile,
    cells: Sequence[Cell],
    results: Sequence[Result],
    out_dir: Path,
) -> None:
    """Print a study's report and write it to `out_dir`.

    Files: ``report.md``, ``results.csv`` (a line per run), ``summary.csv`` (a line per cell),
    ``plot.png`` and ``plot.svg`` (metric against the ablated value; up to two axes), and
    ``curves.png`` and ``curves.svg`` (learning curves, where runs left a ``metrics.jsonl``).
    Missing and failed runs are shown as such.

    Args:
        study: The study.
        profile: The profile it was run in.
        cells: All cells of its grid, in the order to show.
        results: Its finished runs.
        out_dir: Directory to write to; created if missing.

    Raises:
        UserError: Runs finished, but none logged the study's metric.
    """
    from attnlab.ablation.report.compose import write_report

    write_report(study, profile, cells, results, out_dir)
