"""A report of many cells stays bounded: what it computes, shows and writes."""

import csv
import io
import re

import pytest
from rich.console import Console

from attnlab.ablation.report import compose, curves, rows
from tests.ablation.simulated import record, simulate

SIZES = (9, 11, 7)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report of 693 cells of three axes, with learning curves, and what was printed."""
    root = tmp_path_factory.mktemp("many")
    plan = simulate(root, SIZES, 2, lines=5)
    read = []
    original = curves.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "read", lambda run, tag: read.append(run) or original(run, tag))
        report = rows.build(plan.study, plan.profile, plan.cells, plan.results())
        stream = io.StringIO()
        console = Console(file=stream, width=200, color_system=None)
        compose.write_report(report, root / "report", console)
    return root / "report", stream.getvalue(), read, report


def test_tables_show_the_best_and_the_baseline_and_say_so(written):
    folder, printed, _, report = written

    assert "The 50 best of 693 cells and the baseline, in the order of their means" in printed
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "The 200 best of 693 cells and the baseline" in page
    results = page[page.index("<h2>Results</h2>") : page.index("<h2>Cost</h2>")]
    assert results.count("<tr") == 201
    ranks = [int(rank) for rank in re.findall(r'<td class="n">(\d+) \(\d', results)]
    assert ranks[:199] == sorted(ranks[:199])
    assert (ranks[0], ranks[-1]) == (1, report.baseline.place)
    assert (folder / "results.tex").read_text().count(r"\\") == 202  # two lines of headings


def test_files_for_machines_hold_every_cell_and_run(written):
    folder = written[0]

    with (folder / "summary.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    with (folder / "results.csv").open(newline="") as file:
        runs = list(csv.DictReader(file))
    assert (len(cells), len(runs)) == (693, 1386)
    assert float(cells[5]["low95"]) < float(cells[5]["difference"]) < float(cells[5]["high95"])
    assert 0 <= float(cells[5]["p"]) <= float(cells[5]["p_holm"]) <= 1


def test_only_the_learning_curves_that_are_drawn_are_read(written):
    best = written[3].best

    assert len(written[2]) == 2 * 2 * 7  # two figures of at most seven cells with two runs
    assert best.runs[0] in written[2]


def test_page_stays_small(written):
    assert (written[0] / "report.html").stat().st_size < 1_000_000


def test_statistics_are_those_of_each_cell_alone(written):
    report = written[3]
    row = report.rows[123]

    gaps = [row.values[seed] - report.baseline.values[seed] for seed in (0, 1)]
    assert row.difference.mean == pytest.approx(sum(gaps) / 2)
    assert row.difference.low == pytest.approx(
        row.difference.mean - 12.7062 / 1.959964 * 2**0.5 * abs(gaps[0] - gaps[1]) / 2, rel=1e-5
    )
    assert row.score.mean == pytest.approx(
        sum(record(trial)["metrics"]["test/top1"] for trial in _trials(written, row)) / 2
    )


def _trials(written, row):
    from attnlab.ablation.cells import Trial

    return [Trial(row.cell, seed, written[0]) for seed in (0, 1)]
