import math

import pytest

from attnlab.ablation.cells import Result, expand
from attnlab.ablation.errors import UserError
from attnlab.ablation.report import statement
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, record, results, study

GRID = axis("num_rpes", 0, 4, 8)
VALUES = {0: (0.50, 0.55, 0.51), 4: (0.70, 0.72, 0.71), 8: (0.71, 0.72, 0.73)}


def value(cell, seed):
    return VALUES[cell.labels["num_rpes"]][seed]


def report(tmp_path, value=value, skip=lambda _: False, **changes):
    made = study(GRID, baseline={"num_rpes": 4}, **changes)
    return build(made, PROFILE, expand(made, PROFILE), results(made, tmp_path, value, skip))


def test_rows_follow_the_grid_and_the_seeds_whatever_the_order_of_the_results(tmp_path):
    made = study(GRID, baseline={"num_rpes": 4})
    shuffled = results(made, tmp_path, value)[::-1]

    rows = build(made, PROFILE, expand(made, PROFILE), shuffled).rows

    assert [row.cell.name for row in rows] == ["num_rpes=0", "num_rpes=4", "num_rpes=8"]
    assert [[run.value for run in row.runs] for row in rows] == [list(x) for x in VALUES.values()]
    assert [row.is_baseline for row in rows] == [False, True, False]


def test_difference_is_paired_with_the_baseline(tmp_path):
    below, baseline, above = report(tmp_path).rows

    # differences -0.20, -0.17, -0.20 and 0.01, 0.00, 0.02; t(2) = 4.302653
    assert below.difference.mean == pytest.approx(-0.19)
    assert below.difference.half_width == pytest.approx(0.0430265, rel=1e-5)
    assert below.difference.differs is True
    assert above.difference.half_width == pytest.approx(0.0248414, rel=1e-5)
    assert above.difference.differs is False
    assert baseline.difference is None


def test_separation_speaks_of_the_ranked_rows(tmp_path):
    made = report(tmp_path)

    ranked = [row.cell.name for row in made.ranked]
    assert ranked[made.separation.lowest] == "num_rpes=0"
    assert ranked[made.separation.highest] == "num_rpes=8"
    assert made.separation.spread == pytest.approx(0.20)
    assert made.separation.standard_error == pytest.approx(math.sqrt(0.0003 * 2 / 3))


@pytest.mark.parametrize(("direction", "best"), [("maximize", 8), ("minimize", 0)])
def test_best_follows_the_direction(tmp_path, direction, best):
    assert report(tmp_path, direction=direction).best.cell.labels == {"num_rpes": best}


def test_missing_runs_are_named_and_only_shared_seeds_paired(tmp_path):
    gone = {(0, 1), (8, 0), (8, 1), (8, 2)}

    rows = report(tmp_path, skip=lambda t: (t.cell.labels["num_rpes"], t.seed) in gone).rows

    assert [row.missing for row in rows] == [(1,), (), (0, 1, 2)]
    assert [row.score.n for row in rows] == [2, 3, 0]
    assert (rows[0].difference.n, rows[0].difference.mean) == (2, pytest.approx(-0.20))
    assert rows[2].difference is None
    assert not rows[2].ranked


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_cell_with_a_failed_run_is_shown_but_not_ranked(tmp_path, bad):
    made = report(
        tmp_path, lambda c, s: bad if (c.labels["num_rpes"], s) == (8, 1) else value(c, s)
    )
    row = made.rows[2]

    assert row.failed == (1,)
    assert (row.score.n, row.score.mean) == (2, pytest.approx(0.72))
    assert row.difference is None
    assert made.best is made.rows[1]
    assert made.separation.spread == pytest.approx(0.19)


@pytest.mark.parametrize("loss", [None, math.nan, math.inf])
def test_run_with_a_finite_accuracy_but_no_finite_loss_failed(tmp_path, loss):
    made = study(GRID, baseline={"num_rpes": 4})
    runs = results(made, tmp_path, value)
    for result in runs:
        result.record["metrics"]["test/loss"] = 0.7
    runs[-1].record["metrics"]["test/loss"] = loss

    built = build(made, PROFILE, expand(made, PROFILE), runs)

    assert [row.failed for row in built.rows] == [(), (), (2,)]
    assert built.rows[2].values == {0: 0.71, 1: 0.72}
    assert statement.gaps(built) == [
        "1 of 9 runs failed (test/loss is not a finite number): num_rpes=8 seed 2. "
        "A cell with a failed run is not ranked."
    ]


def test_failed_baseline_leaves_no_differences(tmp_path):
    made = report(
        tmp_path, lambda c, s: math.nan if c.labels["num_rpes"] == 4 and s == 2 else value(c, s)
    )

    assert [row.difference for row in made.rows] == [None, None, None]


def test_single_seed_gives_differences_without_interval_and_no_verdict(tmp_path):
    made = report(tmp_path, seeds=(1,))

    assert made.rows[0].difference.mean == pytest.approx(-0.17)
    assert made.rows[0].difference.differs is None
    assert made.separation is None


def test_run_that_did_not_log_the_metric_failed(tmp_path):
    made = study(GRID, baseline={"num_rpes": 4})
    runs = results(made, tmp_path, value)
    runs[0] = Result(runs[0].trial, record(0, 0.5, metric="val/top1"))

    rows = build(made, PROFILE, expand(made, PROFILE), runs).rows

    assert rows[0].failed == (0,)


def test_metric_that_no_run_logged(tmp_path):
    made = study(GRID, baseline={"num_rpes": 4}, metric="test/top9")
    runs = [Result(r.trial, record(r.trial.seed, 0.5)) for r in results(made, tmp_path, value)]

    with pytest.raises(UserError) as caught:
        build(made, PROFILE, expand(made, PROFILE), runs)

    assert str(caught.value) == (
        "metric='test/top9' was logged by none of the 9 runs; logged: model/gflops, "
        "model/parameters, perf/images_per_s, perf/peak_memory_mib, test/top1"
    )


def test_results_of_other_cells_and_seeds_are_left_out(tmp_path):
    wide = study(axis("num_rpes", 0, 4, 8, 16), baseline={"num_rpes": 4}, seeds=(0, 1, 2))
    made = study(GRID, baseline={"num_rpes": 4}, seeds=(0, 2))
    runs = results(wide, tmp_path, lambda c, s: 0.9 if s == 1 else 0.1)

    rows = build(made, PROFILE, expand(made, PROFILE), runs).rows

    assert [[run.seed for run in row.runs] for row in rows] == [[0, 2]] * 3
    assert {run.value for row in rows for run in row.runs} == {0.1}


def test_overhead_is_the_drivers_where_it_measured(tmp_path):
    made = study(GRID, baseline={"num_rpes": 4}, seeds=(0,))
    first, second, third = results(made, tmp_path, value)
    timed = Result(second.trial, second.record, wall_s=21.5)
    untimed = Result(third.trial, {**third.record, "timing": {}})

    rows = build(made, PROFILE, expand(made, PROFILE), [first, timed, untimed]).rows

    overheads = [row.runs[0].overhead_s for row in rows]
    assert overheads[:2] == [pytest.approx(0.41), pytest.approx(21.5 - 20.63)]
    assert math.isnan(overheads[2])


def test_costs_are_medians_of_what_was_logged(tmp_path):
    made = study(axis("num_rpes", 4), baseline={"num_rpes": 4}, seeds=(0, 1, 2, 3))
    rates = (100.0, 900.0, None, 200.0)
    runs = [
        Result(r.trial, record(s, 0.5, metrics={"test/top1": 0.5, "perf/images_per_s": rates[s]}))
        for s, r in enumerate(results(made, tmp_path, lambda c, s: 0.5))
    ]

    (row,) = build(made, PROFILE, expand(made, PROFILE), runs).rows

    assert row.metric("perf/images_per_s") == 200.0
    assert math.isnan(row.metric("perf/peak_memory_mib"))
