import math

import pytest

from attnlab.ablation.cells import Result, expand
from attnlab.ablation.report import conditions, footnotes, statement
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, record, results, study

GRID = axis("num_rpes", 0, 4, 8)
VALUES = {0: (0.50, 0.55, 0.51), 4: (0.70, 0.72, 0.71), 8: (0.71, 0.72, 0.73)}


def value(cell, seed):
    return VALUES[cell.labels["num_rpes"]][seed]


def report(tmp_path, value=value, skip=lambda _: False, change=lambda r: r, **changes):
    made = study(GRID, baseline={"num_rpes": 4}, **changes)
    runs = [change(result) for result in results(made, tmp_path, value, skip)]
    return build(made, PROFILE, expand(made, PROFILE), runs)


def facts(made):
    return dict(conditions.conditions(made))


def changed(when, **entries):
    """A change of the records of all runs for which `when(trial)` holds."""
    return lambda r: Result(r.trial, {**r.record, **entries}) if when(r.trial) else r


def test_verdict_gives_the_numbers_that_decide_it(tmp_path):
    text = statement.verdict(report(tmp_path))

    assert text.startswith(
        "This study separates its cells at this budget: from num_rpes=0 (52.00 %) to num_rpes=8 "
        "(72.00 %) the means spread over 20.00 points, twice the standard error over seeds is "
        "2.83 points."
    )
    assert "3 equal cells would spread as far in less than 0.1 % of such studies" in text


def test_verdict_of_a_study_lost_in_noise(tmp_path):
    noisy = {0: (0.2, 0.6, 0.4), 4: (0.3, 0.7, 0.5), 8: (0.1, 0.5, 0.3)}

    text = statement.verdict(report(tmp_path, lambda c, s: noisy[c.labels["num_rpes"]][s]))

    assert text.startswith("This study does not separate its cells at this budget: from num_rpes=8")
    assert "twice the standard error over seeds is 32.66 points" in text


def test_verdict_of_a_raw_metric_has_no_unit(tmp_path):
    text = statement.verdict(report(tmp_path, metric="test/loss", direction="minimize"))

    assert "from num_rpes=0 (0.52) to num_rpes=8 (0.72) the means spread over 0.2, twice" in text


def test_verdict_with_one_seed(tmp_path):
    assert "cannot tell its cells apart" in statement.verdict(report(tmp_path, seeds=(0,)))


def test_differences_are_counted(tmp_path):
    assert statement.differences(report(tmp_path)) == (
        "1 of 2 cells differs from the baseline after correction for 2 comparisons (Holm, 5 %)."
    )
    assert statement.differences(report(tmp_path, seeds=(0,))) == ""


def test_complete_study_has_no_gaps(tmp_path):
    assert statement.gaps(report(tmp_path)) == []


def test_gaps_name_every_missing_and_failed_run(tmp_path):
    gone = {(0, 1), (8, 0), (8, 2)}
    made = report(
        tmp_path,
        lambda c, s: math.nan if c.labels["num_rpes"] == 8 else value(c, s),
        lambda t: (t.cell.labels["num_rpes"], t.seed) in gone,
    )

    assert statement.gaps(made) == [
        "3 of 9 runs are missing: num_rpes=0 seed 1; num_rpes=8 seeds 0, 2.",
        "1 of 9 runs failed (test/top1 is not a finite number): num_rpes=8 seed 1. "
        "A cell with a failed run is not ranked.",
    ]


def test_gaps_say_that_the_baseline_is_missing(tmp_path):
    made = report(tmp_path, skip=lambda t: t.cell.labels["num_rpes"] == 4)

    assert statement.gaps(made)[1] == (
        "The baseline has no valid run, or a failed one: no differences are given."
    )


def test_conditions_of_a_uniform_study(tmp_path):
    assert facts(report(tmp_path)) == {
        "Baseline": "num_rpes=4",
        "Metric": "test/top1, higher is better",
        "Budget": "1,300 steps, 14 epochs per run",
        "Seeds": "3 per cell, the same in every cell: 0, 1, 2",
        "Profile": "laptop: digits among clutter, 32x32, on CPU cores",
        "Hardware": "AMD EPYC, 2 cores",
        "Versions": "python 3.11.9, torch 2.13.0, lightning 2.6.6",
        "Code": "commit 0123456789",
        "Overhead": "0.41 s outside the training and test loops per run (median; maximum 0.41 s); "
        "0 of 9 runs above the bar of 1 s",
    }


@pytest.mark.parametrize(
    ("workers", "fact", "note"),
    [
        ((1, 1, 1), "1 trial at a time", "images/s: training, one trial at a time. memory"),
        ((2, 2, None), "2 trials at a time", "images/s: training, with 2 trials side by side. mem"),
        ((4, 1, 2), "1 or 2 or 4 trials at a time", "with 1 or 2 or 4 trials side by side. memory"),
        ((None,) * 3, None, "images/s: training. memory"),
    ],
)
def test_the_company_in_which_speed_was_measured_is_said(tmp_path, workers, fact, note):
    made = report(
        tmp_path, change=lambda r: Result(r.trial, r.record, workers=workers[r.trial.seed])
    )

    assert facts(made).get("Side by side") == fact
    assert note in footnotes.footnotes(made)[-1]


def test_mixed_code_is_said(tmp_path):
    dirty = {"commit": "0123456789abcdef", "dirty": True}

    made = report(tmp_path, change=changed(lambda t: t.seed == 2, git=dirty))

    assert facts(made)["Code"] == (
        "the runs do not all come from one state of the code. commit 0123456789: 6 runs of "
        "num_rpes=0 seeds 0, 1; num_rpes=4 seeds 0, 1; num_rpes=8 seeds 0, 1. commit 0123456789 "
        "with uncommitted changes: 3 runs of num_rpes=0 seed 2; num_rpes=4 seed 2; num_rpes=8 seed "
        "2"
    )
    assert statement.gaps(made) == ["The runs come from 2 states of the code, listed under Code."]


def test_mixed_budget_hardware_and_versions_are_said(tmp_path):
    made = report(
        tmp_path,
        change=changed(
            lambda t: t.cell.labels["num_rpes"] == 8,
            steps=900,
            epochs=10,
            hardware={"cpu": "Xeon", "cores": 64, "gpu": "H200"},
            versions={"torch": "2.12.0"},
        ),
    )

    assert facts(made)["Budget"] == (
        "900 to 1,300 steps, 10 to 14 epochs per run; the runs do not share one budget"
    )
    assert facts(made)["Hardware"] == "the runs differ: AMD EPYC, 2 cores; H200, Xeon, 64 cores"
    assert facts(made)["Versions"].endswith("lightning 2.6.6; torch 2.12.0")


def test_overhead_counts_the_runs_above_the_bar(tmp_path):
    slow = {"total_s": 30.0, "loop_s": 28.75, "overhead_s": 1.25}

    made = report(tmp_path, change=changed(lambda t: t.cell.labels["num_rpes"] == 0, timing=slow))

    assert facts(made)["Overhead"] == (
        "0.41 s outside the training and test loops per run (median; maximum 1.25 s); "
        "3 of 9 runs above the bar of 1 s"
    )


def test_no_bar_holds_for_the_overhead_where_each_process_imports_torch(tmp_path):
    slow = {"total_s": 30.0, "loop_s": 28.75, "overhead_s": 1.25}
    cluster = {"timing": slow, "placement": {"SLURM_JOB_ID": "17"}}

    made = report(tmp_path, change=changed(lambda _: True, **cluster))

    assert facts(made)["Overhead"] == (
        "1.25 s outside the training and test loops per run (median; maximum 1.25 s); "
        "on SLURM with the start of Python and what an end before time cost"
    )


def test_nothing_finished_still_states_the_plan(tmp_path):
    made = report(tmp_path, skip=lambda _: True)

    assert list(facts(made)) == ["Baseline", "Metric", "Seeds", "Profile"]
    assert statement.gaps(made)[0].startswith("9 of 9 runs are missing: num_rpes=0 seeds 0, 1, 2;")


@pytest.mark.parametrize(
    ("seeds", "caption"),
    [
        ((0, 1, 2), "profile laptop · 1,300 steps · 3 seeds"),
        ((1,), "profile laptop · 1,300 steps · 1 seed"),
    ],
)
def test_caption(tmp_path, seeds, caption):
    assert conditions.budget_line(report(tmp_path, seeds=seeds)) == caption


def test_lisa_note_is_worded_as_agreed():
    assert statement.LISA_NOTE == (
        "LiSA here is an independent operator built from the published abstracts; the equations "
        "are this project's; not a reproduction of the paper's numbers."
    )


def test_steps_recorded_as_null_are_passed_over(tmp_path):
    made = report(tmp_path, change=lambda r: Result(r.trial, record(r.trial.seed, 0.5, steps=None)))

    assert "Budget" not in facts(made)
