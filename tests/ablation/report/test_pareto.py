import itertools
import random

import numpy as np
import pytest

from attnlab.ablation.cells import expand
from attnlab.ablation.report import pareto
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study

NAMES = ("small", "even", "large", "waste")
SCORE = {"small": 0.5, "even": 0.6, "large": 0.7, "waste": 0.55}
PARAMETERS = {"small": 1e6, "even": 2e6, "large": 4e6, "waste": 3e6}
SPEED = {"small": 100.0, "even": 400.0, "large": 50.0, "waste": 200.0}


def report(tmp_path, **changes):
    made = study(axis("size", *NAMES), baseline={"size": "even"}, **changes)
    runs = results(made, tmp_path, lambda c, s: SCORE[c.labels["size"]] + s / 1000)
    for run in runs:
        name = run.trial.cell.labels["size"]
        run.record["metrics"] |= {
            "model/parameters": PARAMETERS[name],
            "perf/images_per_s": SPEED[name],
        }
        del run.record["metrics"]["model/gflops"]
    return build(made, PROFILE, expand(made, PROFILE), runs)


def beaten(one, other):
    """Whether `other` costs no more and is no worse, and not the same."""
    return other != one and other[0] <= one[0] and other[1] >= one[1]


def test_front_is_what_no_other_point_beats():
    random.seed(7)
    for _ in range(200):
        points = [(random.randrange(4), random.randrange(4)) for _ in range(random.randrange(9))]
        expected = [p for p in points if not any(beaten(p, other) for other in points)]

        found = pareto.front([cost for cost, _ in points], [value for _, value in points])

        assert sorted(points[index] for index in found) == sorted(expected)
        assert all(points[a][0] <= points[b][0] for a, b in itertools.pairwise(found))


def test_a_point_of_unknown_cost_is_on_no_front():
    assert pareto.front([2.0, float("nan"), 1.0], [5.0, 9.0, 1.0]) == [2, 0]


def test_fronts_know_which_way_each_cost_goes(tmp_path):
    found = pareto.fronts(report(tmp_path))

    names = {tag: [row.cell.labels["size"] for row in rows] for tag, rows in found.items()}
    assert names == {
        "model/parameters": ["small", "even", "large"],
        "perf/images_per_s": ["even", "large"],  # small is slower and worse than even
        "perf/peak_memory_mib": ["large"],  # all need as much
    }


def test_fronts_follow_the_direction(tmp_path):
    found = pareto.fronts(report(tmp_path, direction="minimize"))

    names = [row.cell.labels["size"] for row in found["perf/images_per_s"]]
    assert names == ["even", "waste", "small"]


def test_column_names_the_fronts_of_a_cell(tmp_path):
    made = report(tmp_path)
    column = pareto.front_column(made)

    texts = [column.text(row) for row in made.rows]
    assert texts == ["parameters", "parameters, images/s", "all", "—"]


def test_figure_has_a_panel_per_cost_and_joins_the_front(tmp_path):
    figure = pareto.pareto_figure(report(tmp_path))

    panels = [ax for ax in figure.axes if ax.get_visible()]
    labels = [ax.get_xlabel().partition(" →")[0] for ax in panels]
    assert labels == ["parameters", "images/s", "memory (MiB)"]
    (line,) = (line for line in panels[0].lines if line.get_marker() == "o")
    np.testing.assert_allclose(line.get_xydata(), [(1e6, 50.1), (2e6, 60.1), (4e6, 70.1)])
    assert [text.get_text() for text in panels[0].texts] == ["small", "even", "large"]
    assert "more is better" in panels[1].get_xlabel()


def test_no_figure_without_any_cost(tmp_path):
    made = study(axis("size", *NAMES), baseline={"size": "even"})
    runs = results(made, tmp_path, lambda c, s: 0.5)
    for run in runs:
        run.record["metrics"] = {"test/top1": 0.5}

    assert pareto.pareto_figure(build(made, PROFILE, expand(made, PROFILE), runs)) is None


@pytest.mark.parametrize(("widest", "scale"), [(4e6, "linear"), (4e7, "log")])
def test_costs_of_unlike_size_stand_on_a_logarithmic_axis(tmp_path, monkeypatch, widest, scale):
    monkeypatch.setitem(PARAMETERS, "large", widest)

    assert pareto.pareto_figure(report(tmp_path)).axes[0].get_xscale() == scale
