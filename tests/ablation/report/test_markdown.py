import math
import re

import pytest
from markdown_it import MarkdownIt

from attnlab.ablation.cells import expand
from attnlab.ablation.report import document, markdown
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study

VALUES = {0: (0.50, 0.55, 0.51), 4: (0.70, 0.72, 0.71), 8: (0.71, 0.72, 0.73)}


def report(tmp_path, value=None, **changes):
    made = study(axis("num_rpes", 0, 4, 8), baseline={"num_rpes": 4}, **changes)
    runs = results(made, tmp_path, value or (lambda c, s: VALUES[c.labels["num_rpes"]][s]))
    return build(made, PROFILE, expand(made, PROFILE), runs)


def page_of(made, pictures):
    return markdown.page(made.study.name, document.sections(made, pictures))


def rendered(page):
    """The page as HTML, by a CommonMark parser with GitHub's tables."""
    return MarkdownIt().enable("table").render(page)


def tables(page):
    """Text of the cells: tables of rows."""
    return [
        [
            [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        for table in re.findall(r"<table>(.*?)</table>", rendered(page), re.DOTALL)
    ]


def test_tables_render_with_the_numbers(tmp_path):
    found, costs, time = tables(page_of(report(tmp_path), ["plot", "curves"]))

    cost = ["104.3k", "0.0123", "4,321", "612"]
    assert found == [
        [
            "num_rpes",
            "test top-1 accuracy (%)",
            "rank (over seeds)",
            "difference, points [95 % bootstrap]",
            "Student's ±",
            "p (Holm)",
            "differs",
        ],
        # the p of t = -19 and 1.732 with 2 degrees of freedom; the smaller of two is doubled
        ["0", "52.00 ± 2.65 (3)", "3 (3.0)", "-19.00 [-21.69, -13.62]", "4.30", "0.006", "yes"],
        ["4", "71.00 ± 1.00 (3)", "2 (1.8)", "baseline", "—", "—", "—"],
        ["8", "72.00 ± 1.00 (3)", "1 (1.2)", "+1.00 [-1.69, +3.69]", "2.48", "0.225", "no"],
    ]
    assert costs[0][2:] == ["parameters", "GFLOPs", "images/s", "memory (MiB)", "on the front of"]
    assert costs[1][2:] == [*cost, "—"]
    assert costs[3][2:] == [*cost, "all"]
    assert time[0] == ["num_rpes", "s/run", "overhead (s) median, max"]
    assert time[1] == ["0", "21.0", "0.41, 0.41"]


def test_best_mean_is_bold_and_no_other(tmp_path):
    html = rendered(page_of(report(tmp_path), []))

    assert re.findall(r"<strong>(\d+\.\d+ ± [^<]*)</strong>", html) == ["72.00 ± 1.00 (3)"] * 2


def test_page_states_what_a_reader_must_know(tmp_path):
    page = page_of(report(tmp_path), ["plot", "curves"])

    assert page.startswith("# rpe_count\n\n**How many relative position embeddings does LiSA need?")
    assert "> This study separates its cells at this budget" in page
    assert "- **Budget**: 1,300 steps, 14 epochs per run\n" in page
    assert "- **Seeds**: 3 per cell, the same in every cell: 0, 1, 2\n" in page
    assert "LiSA here is an independent operator built from the published abstracts" in page
    assert "Fourier transforms added by formula" in page
    assert len(re.findall(r"^\d\. ", page, re.MULTILINE)) == 5


def test_pictures_are_embedded_by_relative_path(tmp_path):
    both = rendered(page_of(report(tmp_path), ["plot", "curves"]))
    none = page_of(report(tmp_path), [])

    assert re.findall(r'<img src="([^"]+)"', both) == ["plot.png", "curves.png"]
    assert "![" not in none
    assert "No run left a learning curve." in none


def test_failed_cell_and_gap_are_plain(tmp_path):
    page = page_of(
        report(tmp_path, lambda c, s: math.nan if c.labels["num_rpes"] == 8 else 0.5 + s / 100), []
    )

    assert tables(page)[0][3][1:4] == ["3 failed", "—", "—"]
    assert "**3 of 9 runs failed (test/top1 is not a finite number): num_rpes=8" in page


@pytest.mark.parametrize("label", ["a|b", "*a*", "_a_", "<b>", "`a`", "a_b", "a\\b"])
def test_labels_survive_markdown(tmp_path, label):
    made = study(axis("mix", label, "other"), baseline={"mix": "other"})
    runs = results(made, tmp_path, lambda c, s: 0.5 + 0.1 * s)

    html = rendered(page_of(build(made, PROFILE, expand(made, PROFILE), runs), []))

    cell = re.search(r"<tbody>\s*<tr>\s*<td[^>]*>(?:<strong>)?(.*?)(?:</strong>)?</td>", html)
    assert cell[1] == label.replace("<", "&lt;").replace(">", "&gt;")
