import math

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from attnlab.ablation.cells import expand
from attnlab.ablation.report import plots
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study

VALUES = {0: (0.50, 0.55, 0.51), 1: (0.60, 0.61, 0.62), 4: (0.70, 0.72, 0.71)}
COUNTS = axis("num_rpes", 0, 1, 4)
OPERATORS = axis("operator", "lisa", "qna", "self_attention")
KERNELS = axis("kernel", "l2", "elu")


def figure(made, tmp_path, value, skip=lambda _: False):
    runs = results(made, tmp_path, value, skip)
    return plots.metric_figure(build(made, PROFILE, expand(made, PROFILE), runs))


def counts(tmp_path, value=None, skip=lambda _: False, **changes):
    made = study(COUNTS, baseline={"num_rpes": 4}, **changes)
    value = value or (lambda c, s: VALUES[c.labels["num_rpes"]][s])
    return figure(made, tmp_path, value, skip).axes[0]


def names(tmp_path, value=lambda c, s: 0.5 + 0.01 * s, skip=lambda _: False):
    return figure(study(OPERATORS, baseline={"operator": "qna"}), tmp_path, value, skip).axes[0]


def means(ax):
    """Points of each mean ± std, as arrays of (x, y)."""
    return [container.lines[0].get_xydata() for container in ax.containers]


def bars(ax):
    """Error bars of each series, as segments of two points."""
    return [container.lines[2][0].get_segments() for container in ax.containers]


def dots(ax):
    """Single runs, a group of (x, y) per cell that has any."""
    groups = [c.get_offsets() for c in ax.collections if isinstance(c, PathCollection)]
    return [np.asarray(group) for group in groups if len(group)]


def reference(ax):
    """The dashed line of the baseline."""
    (line,) = (line for line in ax.lines if line.get_linestyle() == "--")
    return line


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_numbers_stand_in_even_steps_with_mean_and_std_in_percent(tmp_path):
    ax = counts(tmp_path)

    assert [t.get_text().strip() for t in ax.get_xticklabels()] == ["0", "1", "4\n(baseline)"]
    assert list(ax.get_xticks()) == [0, 1, 2]
    (series,) = means(ax)
    np.testing.assert_allclose(series, [[0, 52], [1, 61], [2, 71]])
    std = 100 * math.sqrt(0.0007)
    np.testing.assert_allclose(bars(ax)[0][0], [[0, 52 - std], [0, 52 + std]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("num_rpes", "test top-1 accuracy (%)")


def test_every_run_is_a_dot_beside_its_mean(tmp_path):
    groups = dots(counts(tmp_path))

    heights = [group[:, 1] for group in groups]
    np.testing.assert_allclose(heights, 100 * np.array([*VALUES.values()]))
    for position, group in enumerate(groups):
        assert len(set(group[:, 0])) == 3
        assert np.all((group[:, 0] > position) & (group[:, 0] < position + 0.3))


def test_baseline_is_a_dashed_line_at_its_mean(tmp_path):
    np.testing.assert_allclose(reference(counts(tmp_path)).get_ydata(), [71, 71])
    np.testing.assert_allclose(reference(names(tmp_path)).get_xdata(), [51, 51])


def test_names_stand_below_each_other_in_the_order_of_the_grid(tmp_path):
    ax = names(tmp_path, lambda c, s: {"lisa": 0.3, "qna": 0.7}.get(c.labels["operator"], 0.4))

    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "lisa",
        "qna (baseline)",
        "self_attention",
    ]
    top, bottom = ax.get_ylim()[::-1]
    assert top < 0 < 2 < bottom
    (series,) = means(ax)
    np.testing.assert_allclose(series, [[30, 0], [70, 1], [40, 2]])
    assert ax.containers[0].lines[0].get_linestyle() == "None"
    assert texts(ax) == ["30.00 ± 0.00 (3)", "70.00 ± 0.00 (3)", "40.00 ± 0.00 (3)"]
    assert ax.get_xlabel() == "test top-1 accuracy (%)"


def test_missing_cell_breaks_the_line_and_says_so(tmp_path):
    ax = counts(tmp_path, skip=lambda t: t.cell.labels["num_rpes"] == 1)

    (series,) = means(ax)
    assert np.isnan(series[1, 1])
    assert not np.isnan(series[[0, 2]]).any()
    assert texts(ax) == ["no run"]
    assert ax.texts[0].get_position()[0] == 1


def test_failed_cell_shows_its_valid_runs_without_a_mean(tmp_path):
    def value(cell, seed):
        bad = cell.labels["num_rpes"] == 0 and seed == 1
        return math.nan if bad else VALUES[cell.labels["num_rpes"]][seed]

    ax = counts(tmp_path, value)

    assert np.isnan(means(ax)[0][0, 1])
    np.testing.assert_allclose(dots(ax)[0][:, 1], [50, 51])
    assert texts(ax) == ["1 failed"]


def test_absence_among_names_takes_the_place_of_the_score(tmp_path):
    ax = names(tmp_path, skip=lambda t: t.cell.labels["operator"] == "lisa")

    assert texts(ax) == ["no run", "51.00 ± 1.00 (3)", "51.00 ± 1.00 (3)"]
    assert [text.get_position()[1] for text in ax.texts] == [0, 1, 2]


def test_single_run_has_no_error_bar(tmp_path):
    ax = counts(tmp_path, seeds=(1,))

    assert [len(segment) for segment in bars(ax)[0]] == [0, 0, 0]
    assert [len(group) for group in dots(ax)] == [1, 1, 1]


def test_second_axis_becomes_lines_of_unlike_colours_and_markers(tmp_path):
    made = study(COUNTS, KERNELS, baseline={"num_rpes": 4, "kernel": "elu"})

    ax = figure(
        made,
        tmp_path,
        lambda c, s: VALUES[c.labels["num_rpes"]][s] - (c.labels["kernel"] == "elu") / 5,
    ).axes[0]

    first, second = means(ax)
    np.testing.assert_allclose(first[:, 1], [52, 61, 71])
    np.testing.assert_allclose(second[:, 1], [32, 41, 51])
    assert (second[:, 0] > first[:, 0]).all()  # side by side: bars do not hide each other
    legend = ax.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["l2", "elu (baseline)"]
    lines = [container.lines[0] for container in ax.containers]
    assert [to_hex(line.get_color()) for line in lines] == ["#0072b2", "#d55e00"]
    assert [line.get_marker() for line in lines] == ["o", "s"]
    np.testing.assert_allclose(reference(ax).get_ydata(), [51, 51])


def test_numbers_take_the_horizontal_axis_also_when_they_come_second(tmp_path):
    made = study(KERNELS, COUNTS, baseline={"num_rpes": 4, "kernel": "l2"})

    ax = figure(
        made,
        tmp_path,
        lambda c, s: VALUES[c.labels["num_rpes"]][s] - (c.labels["kernel"] == "elu") / 5,
    ).axes[0]

    assert ax.get_xlabel() == "num_rpes"
    np.testing.assert_allclose([series[:, 1] for series in means(ax)], [[52, 61, 71], [32, 41, 51]])


def test_two_axes_of_names_stay_apart(tmp_path):
    made = study(OPERATORS, KERNELS, baseline={"operator": "lisa", "kernel": "l2"})

    ax = figure(made, tmp_path, lambda c, s: 0.5 + 0.01 * s).axes[0]

    heights = np.concatenate([series[:, 1] for series in means(ax)])
    assert np.diff(np.sort(heights)).min() > 0.25
    assert texts(ax) == []  # the legend stands where the scores would


def test_title_and_caption_state_question_and_budget(tmp_path):
    made = study(COUNTS, baseline={"num_rpes": 4}, question="How many? " * 20)

    fig = figure(made, tmp_path, lambda c, s: 0.5 + 0.1 * s)

    assert fig.get_suptitle().count("\n") == 2
    assert fig.get_supxlabel() == (
        "profile laptop · 1,300 steps · 3 seeds · mean ± std, dots: single runs"
    )


def test_raw_metric_keeps_its_scale(tmp_path):
    ax = counts(tmp_path, metric="test/loss", direction="minimize")

    np.testing.assert_allclose(means(ax)[0][:, 1], [0.52, 0.61, 0.71])
    assert ax.get_ylabel() == "test loss"


def test_no_picture_of_three_axes_or_of_nothing(tmp_path):
    three = study(
        COUNTS, KERNELS, OPERATORS, baseline={"num_rpes": 4, "kernel": "l2", "operator": "qna"}
    )

    assert figure(three, tmp_path, lambda c, s: 0.5) is None
    assert (
        figure(study(COUNTS, baseline={"num_rpes": 4}), tmp_path, lambda c, s: 0.5, lambda _: True)
        is None
    )


@pytest.mark.parametrize("seeds", [tuple(range(12))])
def test_many_seeds_stay_within_their_value(tmp_path, seeds):
    made = study(COUNTS, baseline={"num_rpes": 4}, seeds=seeds)

    groups = dots(figure(made, tmp_path, lambda c, s: 0.5 + 0.01 * s).axes[0])

    assert [len(set(group[:, 0])) for group in groups] == [12, 12, 12]
    assert all(group[:, 0].max() < index + 0.25 for index, group in enumerate(groups))
