"""The report of a study; what draws and computes is imported only when one is written."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from attnlab.ablation.attempts import Failure
from attnlab.ablation.cells import Cell, Result
from attnlab.ablation.errors import UserError
from attnlab.ablation.schema import Profile, Study

Failures = Mapping[tuple[str, int], Failure]
Material = tuple[Study, Profile, Sequence[Cell], Sequence[Result], Path, Failures]
"""What `write` takes."""


def write(
    study: Study,
    profile: Profile,
    cells: Sequence[Cell],
    results: Sequence[Result],
    out_dir: Path,
    failures: Failures | None = None,
) -> None:
    """Print a study's report and write it to `out_dir`, which lies in the study's directory.

    Files: ``report.html`` (one page that needs no other file), ``report.md``, ``results.tex`` (for
    a paper), ``results.csv`` (a line per run), ``summary.csv`` (a line per cell), and as .png and
    .svg: ``plot`` (metric against the ablated value; up to two axes), ``heatmap`` (two axes),
    ``pareto`` (metric against cost) and ``curves`` (learning curves, where runs left a
    ``metrics.jsonl``). Missing and failed runs are shown as such.

    Args:
        study: The study.
        profile: The profile it was run in.
        cells: All cells of its grid, in the order to show.
        results: Its finished runs.
        out_dir: Directory to write to; created if missing.
        failures: Why runs without a result failed, by key of the cell and seed.

    Raises:
        UserError: Runs finished, but none logged the study's metric.
    """
    from rich.console import Console

    from attnlab.ablation.report import compose, prediction, rows

    foretold = prediction.read(out_dir.parent)
    report = rows.build(study, profile, cells, results, failures, foretold)
    compose.write_report(report, out_dir, Console())


def write_all(
    found: Sequence[Material], absent: Mapping[str, str], out_dir: Path, profile: str
) -> None:
    """Write the reports of several studies, and one page over all of them to `out_dir`.

    Args:
        found: What `write` takes, of every study that has results.
        absent: Why other studies have none, by name; one whose metric no run logged joins them.
        out_dir: Directory of ``<profile>.html`` and ``<profile>.md``; created if missing.
        profile: Name of the profile.
    """
    from rich.console import Console
    from rich.text import Text

    from attnlab.ablation.report import compose, overview, prediction, rows

    written, without = [], dict(absent)
    for study, adapted, cells, results, folder, failures in found:
        foretold = prediction.read(folder.parent)
        try:
            report = rows.build(study, adapted, cells, results, failures, foretold)
        except UserError as error:
            without[study.name] = str(error)
            continue
        written.append(compose.write_report(report, folder))
    console = Console()
    overview.show(written, without, console)
    page, *_ = overview.write(written, without, out_dir, profile)
    console.print(Text(f"Report: {page}"), soft_wrap=True)
