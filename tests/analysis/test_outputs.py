"""Tables and figures hold the numbers of the analysis."""

import csv
import math

import matplotlib
import numpy as np
import pytest
import torch

from attnlab.analysis import figures, overlay, tables
from attnlab.analysis.redundancy import Analysis, KernelMeasures
from attnlab.callbacks.figures import contact_sheet


def measures(name: str, heads: int, across: float = 0.25) -> KernelMeasures:
    base = torch.arange(heads) / 8
    rank = torch.full((heads,), 2.5)
    per_head = (base, base - 0.5, 1 + base, rank)
    return KernelMeasures(name, "LiSA", 6, (2, 5), (2, 3), 3, across, *per_head)


@pytest.fixture
def found() -> Analysis:
    cka = torch.tensor([[1, 0.5, 0.25], [0.5, 1, -0.125], [0.25, -0.125, 1]], dtype=torch.float64)
    similarity = torch.tensor([[math.nan, 0.75], [0.75, -0.5]])
    kernels = (measures("one", 1, math.nan), measures("two", 3))
    return Analysis(("a", "b", "c"), cka, 17, kernels, similarity, {"c": "none"})


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_summary_is_the_mean_over_what_is_defined(found):
    assert found.summary() == pytest.approx(
        {
            "diag/cka": 0.625 / 3,
            "diag/kernel_similarity_heads": 0.25,
            "diag/kernel_similarity_layers": 0.75,
            "diag/kernel_similarity_queries": 0.0625,
            "diag/kernel_similarity_relative": -0.4375,
            "diag/kernel_entropy": (1 + 1.125) / 2 / math.log(10),
            "diag/kernel_effective_rank": 2.5,
        }
    )


def test_tables_hold_every_number(found, tmp_path):
    paths = tables.write(found, tmp_path)
    assert {path.name for path in paths} == {
        "summary.csv",
        "kernels.csv",
        "heads.csv",
        "cka.csv",
        "kernel_similarity.csv",
    }
    summary = {line["tag"]: float(line["value"]) for line in read(tmp_path / "summary.csv")}
    assert summary == found.summary()
    assert [line["b"] for line in read(tmp_path / "cka.csv")] == ["0.5", "1.0", "-0.125"]
    assert read(tmp_path / "kernel_similarity.csv") == [
        {"": "one", "one": "", "two": "0.75"},
        {"": "two", "one": "0.75", "two": "-0.5"},
    ]
    one, two = read(tmp_path / "kernels.csv")
    assert (one["similarity_heads"], two["similarity_heads"]) == ("", "0.25")
    assert (two["heads"], two["queries"], two["keys"], two["samples"]) == ("3", "6", "10", "3")
    assert (two["entropy_nats"], two["similarity_relative"]) == ("1.125", "-0.375")
    assert float(two["entropy"]) == pytest.approx(1.125 / math.log(10))
    assert (two["effective_rank"], two["highest_rank"]) == ("2.5", "6")
    heads = read(tmp_path / "heads.csv")
    assert [(line["mixer"], line["head"]) for line in heads] == [
        ("one", "0"),
        ("two", "0"),
        ("two", "1"),
        ("two", "2"),
    ]
    assert heads[3]["similarity_queries"] == "0.25"


def test_query_kernels_come_back(tmp_path):
    kappa = torch.arange(2 * 3 * 2 * 5).reshape(2, 3, 2, 5) / 4
    one = overlay.QueryKernels("m", kappa, ((0, 1), (1, 4)), (2, 5))
    lines = read(tables.write_query_kernels([one], [(3, 4), (7, 9)], 2, tmp_path / "q.csv"))
    assert len(lines) == 2 * 2 * 2 * 5
    last = dict(lines[-1])
    assert float(last.pop("weight")) == kappa[1, 1, 1, 4]
    assert list(last.values()) == ["m", "7", "9", "1", "1", "4"]


def test_heat_maps_show_the_tables(found):
    figure = figures.layers_figure(found, "title")
    left, right = figure.axes[:2]
    np.testing.assert_allclose(left.images[0].get_array(), found.cka)
    shown = right.images[0].get_array()
    assert shown.mask.tolist() == [[True, False], [False, False]]
    assert [text.get_text() for text in right.texts] == ["–", "0.75", "0.75", "-0.50"]  # noqa: RUF001
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["a", "b", "c"]


def test_many_layers_leave_their_numbers_out():
    count = 2 * figures.NUMBERS + 1
    one = measures("x", 2)
    wide = Analysis(
        tuple(map(str, range(count))), torch.eye(count).double(), 9, (one,), torch.eye(1)
    )
    left = figures.layers_figure(wide, "title").axes[0]
    assert not left.texts
    assert [tick.get_text() for tick in left.get_xticklabels()][:2] == ["0", "3"]


def test_bars_are_on_one_scale(found):
    axes = figures.measures_figure(found, "title").axes
    assert len(axes) == 5
    assert "not the paper's" in axes[0].figure._supxlabel.get_text()
    widths = [[bar.get_width() for bar in ax.patches] for ax in axes]
    assert widths[0] == [0, 0.25]
    assert widths[4] == [2.5, 2.5]
    assert axes[0].texts[0].get_text().strip() == "—"
    assert axes[0].get_xlim() == axes[1].get_xlim() == axes[3].get_xlim()
    assert axes[2].get_xlim()[0] == -1  # it has a negative value
    assert axes[4].get_xlim()[1] > 6
    assert list(axes[4].lines[0].get_xdata()) == [6, 6]


def test_kernels_are_coloured_by_sign_and_marked():
    kappa = torch.zeros(1, 8, 2, 4)
    kappa[0, 0, 0, 0], kappa[0, 0, 1, 3] = 0.5, -0.25
    image = torch.ones(6, 12)
    one = overlay.QueryKernels("m", kappa, ((1, 2),), (2, 4))
    figure = figures.kernels_figure(image, [one], 0, "title")
    assert len(figure.axes) == 1 + figures.MOST_HEADS
    head = figure.axes[1]
    pixels = head.images[0].get_array()
    assert pixels.shape == (6, 12, 3)
    colours = matplotlib.colormaps["RdBu_r"]
    np.testing.assert_allclose(pixels[2, 2], colours(1.0)[:3])
    np.testing.assert_allclose(pixels[3, 11], colours(0.25)[:3])
    assert pixels[0, 5].min() > 0.95
    assert head.get_xlabel() == "0.5"
    assert {patch.get_bbox().bounds for patch in head.patches} == {(6, 3, 3, 3)}
    dark = figures.kernels_figure(1 - image, [one], 0, "title").axes[1].images[0].get_array()
    np.testing.assert_allclose(dark, pixels)  # mostly dark: the negative is the shade


def test_sheet_is_drawn_as_it_is():
    sheet = contact_sheet(torch.tensor([[[1.0, -1.0]], [[0.0, 2.0]]]))
    figure = figures.sheet_figure(sheet, 2, "title")
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), sheet)
    assert figure._supxlabel.get_text().startswith("2 maps")
