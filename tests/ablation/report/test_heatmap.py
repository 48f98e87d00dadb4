import math

import numpy as np
from matplotlib.patches import Rectangle

from attnlab.ablation.attempts import Failure, Kind
from attnlab.ablation.cells import expand
from attnlab.ablation.report import heatmap
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study

DEPTHS, WIDTHS = axis("depth", 1, 2), axis("width", 8, 16, 32)
BASELINE = {"depth": 2, "width": 16}


def draw(tmp_path, value=None, skip=lambda _: False, axes=(DEPTHS, WIDTHS), errors=()):
    made = study(*axes, baseline={a.name: BASELINE.get(a.name, 0) for a in axes})
    value = value or (lambda c, s: c.labels["depth"] / 10 + c.labels["width"] / 100 + s / 1000)
    cells = expand(made, PROFILE)
    failure = Failure(Kind.ERROR, "boom", 1, 1, "2026-01-02T03:04:05+00:00")
    failures = {(cells[at].key, seed): failure for at, seed in errors}
    runs = results(made, tmp_path, value, skip)
    return heatmap.heatmap_figure(build(made, PROFILE, cells, runs, failures))


def test_cells_lie_in_the_order_of_the_grid_with_mean_and_n(tmp_path):
    ax = draw(tmp_path).axes[0]

    np.testing.assert_allclose(ax.images[0].get_array(), [[18.1, 26.1, 42.1], [28.1, 36.1, 52.1]])
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written[2, 0] == "42.10\n(3)"
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("depth", "width")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["8", "16", "32"]


def test_what_is_missing_or_failed_is_written_where_the_mean_would_be(tmp_path):
    def value(cell, seed):
        bad = cell.labels == {"depth": 1, "width": 8} and seed == 0
        return math.nan if bad else 0.5

    gone = {(1, 16): (0, 1, 2), (1, 32): (0, 1, 2), (2, 8): (1,)}
    ax = draw(
        tmp_path,
        value,
        lambda t: t.seed in gone.get((t.cell.labels["depth"], t.cell.labels["width"]), ()),
        errors=[(2, 0), (2, 1)],
    ).axes[0]

    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert [written[x, 0] for x in range(3)] == ["1 failed", "no run", "2 in error"]
    assert written[0, 1] == "50.00\n(2 of 3)"
    assert np.isnan(ax.images[0].get_array().filled(np.nan)[0]).all()


def test_baseline_is_framed(tmp_path):
    (frame,) = (p for p in draw(tmp_path).axes[0].patches if isinstance(p, Rectangle))

    assert frame.get_xy() == (0.5, 0.5)  # second column, second line


def test_the_better_is_the_darker(tmp_path):
    made = study(DEPTHS, WIDTHS, baseline=BASELINE, direction="minimize")
    runs = results(made, tmp_path, lambda c, s: c.labels["width"] / 100)

    image = heatmap.heatmap_figure(build(made, PROFILE, expand(made, PROFILE), runs)).axes[0]
    rgba = image.images[0].to_rgba(np.ma.array([8.0, 32.0]), norm=True)

    assert rgba[0, :3].sum() < rgba[1, :3].sum()


def test_only_grids_of_two_axes_are_drawn(tmp_path):
    assert draw(tmp_path, lambda c, s: 0.5, axes=(DEPTHS,)) is None
    assert draw(tmp_path, skip=lambda _: True) is None


def test_a_large_grid_is_drawn_without_numbers(tmp_path):
    many = (axis("depth", *range(1, 41)), axis("width", *range(16, 31)))

    ax = draw(tmp_path, lambda c, s: 0.5 + c.labels["depth"] / 100, axes=many).axes[0]

    assert len(ax.texts) == 0
    assert len(ax.get_yticklabels()) == 20
