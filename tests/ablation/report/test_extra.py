"""Further metrics that a study asks for, in every form of the report."""

import csv
import io
import re

import pytest
from rich.console import Console

from attnlab.ablation.cells import expand
from attnlab.ablation.report import columns, document, export, markdown, table
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study

CKA = {("a", 0): 0.2, ("a", 1): 0.3, ("b", 0): -0.002}
"""By cell and seed; cell b logged none with seed 1, cell c none at all."""


@pytest.fixture
def report(tmp_path):
    made = study(
        axis("mixer", "a", "b", "c", "d"),
        baseline={"mixer": "a"},
        seeds=(0, 1),
        extra_metrics=["diag/cka", "val/top1", "diag/kernel_effective_rank"],
    )

    def value(cell, seed):
        return float("nan") if (cell.labels["mixer"], seed) == ("d", 1) else 0.5 + 0.1 * seed

    runs = results(made, tmp_path, value)
    for run in runs:
        name, seed = run.trial.cell.labels["mixer"], run.trial.seed
        run.record["metrics"] |= {"diag/kernel_effective_rank": 30.0 + seed}
        if name == "a":
            run.record["metrics"]["val/top1"] = 0.41 + 0.02 * seed
        if (name, seed) in CKA:
            run.record["metrics"]["diag/cka"] = CKA[name, seed]
    return build(made, PROFILE, expand(made, PROFILE), runs)


def test_columns_show_mean_and_spread_of_sound_runs(report):
    shown = columns.extra_columns(report)
    headings = ["cka", "val top-1 accuracy (%)", "kernel effective rank"]
    assert [column.heading for column in shown] == headings
    texts = [[column.text(row) for column in shown] for row in report.rows]
    assert texts == [
        ["0.250 ± 0.071", "42.00 ± 1.41", "30.5 ± 0.7"],
        ["-0.00200 (1)", "—", "30.5 ± 0.7"],
        ["—", "—", "30.5 ± 0.7"],
        ["—", "—", "30.0"],  # the other run failed
    ]


def test_page_sets_them_beside_the_metric(report):
    page = markdown.body(document.sections(report, []), 2)
    assert "| mixer | test top-1 accuracy (%) | cka | val top-1 accuracy (%) |" in page
    assert "| b | 55.00 ± 7.07 (2) | -0.00200 (1) | — | 30.5 ± 0.7 |" in page
    assert "diag/kernel\\_effective" in page or "diag/kernel_effective" in page
    bare = build(study(axis("mixer", "a"), baseline={"mixer": "a"}), PROFILE, [], [])
    assert "Further metrics" not in markdown.body(document.sections(bare, []), 2)


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (240, [["b", "55.00 ± 7.07 (2)", "-0.00200 (1)", "—", "30.5 ± 0.7"]]),
        (80, [["b", "-0.00200 (1)", "—", "30.5 ± 0.7"]]),
        (40, [["b", "-0.00200 (1)", "—"], ["b", "30.5 ± 0.7"]]),
    ],
)
def test_terminal_shows_them_in_one_table_or_in_as_many_as_fit(report, width, expected):
    stream = io.StringIO()
    table.show(report, Console(file=stream, width=width, color_system=None))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    cells = [re.split(r"  +", line.strip()) for line in lines if line.startswith("b ")]
    shown = [line for line in cells if {"-0.00200 (1)", "30.5 ± 0.7"} & {*line}]
    assert len(shown) == len(expected)
    assert all({*wanted} <= {*line} for wanted, line in zip(expected, shown, strict=True))
    assert width == 240 or shown == expected


def test_summary_has_them_unrounded(report, tmp_path):
    export.write_summary(report, tmp_path / "summary.csv")
    with (tmp_path / "summary.csv").open(newline="") as file:
        first, second, third, _ = csv.DictReader(file)
    assert float(first["diag/cka"]) == pytest.approx(0.25, abs=1e-15)
    assert float(first["diag/cka_std"]) == pytest.approx(0.005**0.5, abs=1e-15)
    assert (float(second["diag/cka"]), second["diag/cka_std"]) == (-0.002, "")
    assert (third["diag/cka"], third["diag/cka_std"]) == ("", "")
