import io
import math

import pytest
from rich.console import Console

from attnlab.ablation.cells import Result, expand
from attnlab.ablation.report import columns, table
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study

OPERATORS = ("lisa", "qna", "self_attention", "depthwise_convolution")
SCORES = {
    "lisa": (0.50, 0.55, 0.51),
    "qna": (0.70, 0.72, 0.71),
    "self_attention": (0.71, 0.72, 0.73),
    "depthwise_convolution": (0.60, math.nan, 0.62),
}


def report(tmp_path, seeds=(0, 1, 2), skip=lambda _: False, change=lambda r: r):
    made = study(axis("operator", *OPERATORS), baseline={"operator": "qna"}, seeds=seeds)
    runs = results(made, tmp_path, lambda c, s: SCORES[c.labels["operator"]][s], skip)
    return build(made, PROFILE, expand(made, PROFILE), map(change, runs))


def shown(made, width):
    stream = io.StringIO()
    table.show(made, Console(file=stream, width=width, color_system=None))
    return stream.getvalue().splitlines()


def line(lines, start):
    return next(line for line in lines if line.startswith(start)).split("  ")


def cells(lines, start):
    return [part.strip() for part in line(lines, start) if part.strip()]


def test_wide_terminal_shows_one_table(tmp_path):
    lines = shown(report(tmp_path), 180)

    assert cells(lines, "lisa") == [
        "lisa",
        "52.00 ± 2.65 (3)",
        "3 (3.0)",
        "-19.00 [-21.69, -13.62]",
        "4.30",
        "0.006",
        "yes",
        "104.3k",
        "0.0123",
        "4,321",
        "612",
        "21.0",
        "0.41, 0.41",
    ]
    assert cells(lines, "qna")[1:5] == ["71.00 ± 1.00 (3)", "2 (1.8)", "baseline", "—"]
    assert cells(lines, "self_attention")[2:7] == [
        "1 (1.2)",
        "+1.00 [-1.69, +3.69]",
        "2.48",
        "0.225",
        "no",
    ]
    assert cells(lines, "depthwise")[1:4] == ["61.00 ± 1.41 (2), 1 failed", "—", "—"]


def test_narrow_terminal_shows_results_and_costs_apart(tmp_path):
    lines = shown(report(tmp_path), 100)

    assert max(map(len, lines)) <= 100
    rows = [line.split() for line in lines if line.startswith("self_attention ")]
    assert [row[-1] for row in rows] == ["2.48", "no", "0.41"]
    assert rows[0][1:4] == ["72.00", "±", "1.00"]


def test_headings_break_into_short_lines(tmp_path):
    lines = shown(report(tmp_path), 180)

    heading = " ".join(" ".join(lines[:6]).split())
    assert "difference, points" in heading
    assert "[95 % bootstrap]" in heading


def test_verdict_gaps_and_conditions_follow(tmp_path):
    made = report(tmp_path, skip=lambda t: t.seed == 2 and "lisa" in t.cell.name)
    text = " ".join(" ".join(shown(made, 120)).split())

    assert "This study separates its cells" in text
    assert "1 of 12 runs is missing: operator=lisa seed 2." in text
    assert "1 of 12 runs failed" in text
    assert "1,300 steps, 14 epochs per run" in text
    assert "not a reproduction" in text


def test_markup_in_names_is_text(tmp_path):
    made = study(axis("mix[bold]", "[red]a", "b"), baseline={"mix[bold]": "b"})
    runs = results(made, tmp_path, lambda c, s: 0.5 + 0.1 * s)

    lines = shown(build(made, PROFILE, expand(made, PROFILE), runs), 160)

    assert any(line.startswith("mix[bold]") for line in lines)
    assert any(line.startswith("[red]a") for line in lines)


def test_fewer_pairs_than_runs_are_named(tmp_path):
    made = report(tmp_path, skip=lambda t: t.cell.labels["operator"] == "qna" and t.seed == 0)
    gone = report(tmp_path, skip=lambda t: t.cell.labels["operator"] == "qna" and t.seed > 0)

    assert columns.difference(made.metric, made.rows[0]).endswith("(2 pairs)")
    assert columns.difference(gone.metric, gone.rows[0]) == "-20.00 (1 pair)"
    assert columns.differs(gone.rows[0]) == "—"


def test_overhead_shows_median_and_maximum(tmp_path):
    def slower(result):
        wall_s = 20.63 + (0.2, 0.9, 0.3)[result.trial.seed]
        return Result(result.trial, result.record, wall_s)

    row = report(tmp_path, change=slower).rows[0]
    seconds, overhead = columns.time_columns()
    assert overhead.text(row) == "0.30, 0.90"
    assert seconds.text(row) == "20.9"  # of 20.83, 21.53, 20.93, where the runs say 21.04


def test_one_seed_is_named_as_one_pair(tmp_path):
    made = report(tmp_path, seeds=(0,))

    assert columns.difference(made.metric, made.rows[2]) == "+1.00 (1 pair)"
    assert columns.score(made.metric, made.rows[2]) == "71.00 (1)"


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (104_310, "104.3k"), (5_717_416, "5.717M"), (2.5e9, "2.5G"), (math.nan, "—")],
)
def test_count(value, text):
    assert columns.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.012345, "0.0123"), (4.5, "4.50"), (123.4, "123"), (36_000.4, "36,000"), (math.nan, "—")],
)
def test_digits(value, text):
    assert columns.digits(value) == text
