import json

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from attnlab.ablation.cells import expand
from attnlab.ablation.report import curves
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study, write_curve

COUNTS = axis("num_rpes", 0, 4)
KERNELS = axis("kernel", "l2", "elu", "mask")


def write(run_dir, lines):
    run_dir.mkdir(parents=True, exist_ok=True)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (run_dir / "metrics.jsonl").write_text(text, encoding="utf-8")


def report(tmp_path, *axes, baseline, lines=None, **changes):
    """A report whose runs left the `lines(cell, seed)`, where given."""
    made = study(*axes, baseline=baseline, **changes)
    runs = results(made, tmp_path, lambda c, s: 0.5)
    for result in runs:
        if lines is not None:
            write(result.trial.run_dir, lines(result.trial.cell, result.trial.seed))
    return build(made, PROFILE, expand(made, PROFILE), runs)


def two_steps(cell, seed):
    start = 0.2 + cell.labels["num_rpes"] / 10 + 0.1 * seed
    return [{"step": 50, "val/top1": start}, {"step": 100, "val/top1": start + 0.1 * seed}]


def simple(tmp_path, lines=two_steps):
    return report(tmp_path, COUNTS, baseline={"num_rpes": 0}, lines=lines)


def test_curve_is_mean_and_std_over_the_seeds(tmp_path):
    first, second = (curves.curve(row, "val/top1") for row in simple(tmp_path).rows)

    assert first.steps == [50, 100]
    assert first.mean == pytest.approx([0.3, 0.4])  # 0.2, 0.3, 0.4 and 0.2, 0.4, 0.6
    assert first.std == pytest.approx([0.1, 0.2])
    assert second.mean == pytest.approx([0.7, 0.8])


def test_curve_uses_the_steps_that_all_runs_share(tmp_path):
    def lines(cell, seed):
        return [{"step": s, "val/top1": 0.1 * s} for s in ((1, 2, 3) if seed == 0 else (2, 3, 4))]

    assert curves.curve(simple(tmp_path, lines).rows[0], "val/top1").steps == [2, 3]


def test_reading_copes_with_resumed_and_killed_runs(tmp_path):
    def lines(cell, seed):
        return [
            {"step": 50, "train/loss": 2.0},
            {"step": 50, "val/top1": 0.3},
            '{"step": 75, "val/to',
            {"step": 50, "val/top1": 0.4},
            {"step": 100, "val/top1": None},
            {"step": 150, "val/top1": float("nan")},
            {"step": 200, "val/top1": 0.5},
        ]

    run = simple(tmp_path, lines).runs[0]

    assert curves.read(run, "val/top1") == {50: 0.4, 200: 0.5}


def test_line_and_band_are_drawn_in_percent(tmp_path):
    (ax,) = curves.curves_figure(simple(tmp_path)).axes

    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[50, 30], [100, 40]])
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[50, 70], [100, 80]])
    band = next(c for c in ax.collections if isinstance(c, PolyCollection))
    corners = {tuple(point) for point in np.round(band.get_paths()[0].vertices, 6)}
    assert corners == {(50, 20), (50, 40), (100, 20), (100, 60)}
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["0", "4"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "val top-1 accuracy (%)")


def test_further_axes_become_panels(tmp_path):
    heights = {"l2": 0.1, "elu": 0.2, "mask": 0.3}
    made = report(
        tmp_path,
        COUNTS,
        KERNELS,
        baseline={"num_rpes": 0, "kernel": "l2"},
        lines=lambda c, s: [{"step": 1, "val/top1": heights[c.labels["kernel"]]}],
    )

    fig = curves.curves_figure(made)

    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == ["kernel=l2", "kernel=elu", "kernel=mask"]
    assert [float(ax.lines[1].get_ydata()[0]) for ax in shown] == pytest.approx([10, 20, 30])


def test_metric_is_the_one_of_validation(tmp_path):
    made = report(
        tmp_path,
        COUNTS,
        baseline={"num_rpes": 0},
        metric="test/loss",
        direction="minimize",
        lines=lambda c, s: [{"step": 1, "val/loss": 2.5, "val/top1": 0.1}],
    )

    (ax,) = curves.curves_figure(made).axes

    assert ax.get_ylabel() == "val loss"
    assert float(ax.lines[0].get_ydata()[0]) == 2.5


def test_cell_without_a_curve_stays_in_the_legend(tmp_path):
    made = report(tmp_path, COUNTS, baseline={"num_rpes": 0})
    write_curve(made.rows[1].runs[0].run_dir, 0.6)

    (ax,) = curves.curves_figure(made).axes

    assert [len(line.get_xdata()) for line in ax.lines] == [0, 10]
    assert len(ax.get_legend().get_texts()) == 2


def test_no_curves_no_picture(tmp_path):
    assert curves.curves_figure(report(tmp_path, COUNTS, baseline={"num_rpes": 0})) is None
