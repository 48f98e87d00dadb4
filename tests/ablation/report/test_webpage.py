import re
from html.parser import HTMLParser

import pytest

from attnlab.ablation.cells import expand
from attnlab.ablation.report import compose, statement, webpage
from attnlab.ablation.report.document import Table, Text
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study, write_curve

LABEL = '<b>&"x"'
VOID = {"meta", "br"}
FETCHES = {"src", "srcset", "poster", "data", "action", "background"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and notes ids, links and what would be fetched."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.fetched, self.tags = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name.endswith("href"):
                self.links.append(value)
            elif name in FETCHES:
                self.fetched.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report with all four figures."""
    tmp_path = tmp_path_factory.mktemp("study")
    made = study(
        axis("kernel", LABEL, "elu"),
        axis("num_rpes", 0, 4),
        baseline={"kernel": "elu", "num_rpes": 0},
        question="Is 1 < 2 & why?",
    )
    runs = results(made, tmp_path / "runs", lambda c, s: 0.5 + c.labels["num_rpes"] / 10 + s / 100)
    for result in runs:
        write_curve(result.trial.run_dir, 0.6)
    report = build(made, PROFILE, expand(made, PROFILE), runs)
    return compose.write_report(report, tmp_path / "report")


@pytest.fixture(scope="module")
def page(written):
    return (written.out_dir / "report.html").read_text(encoding="utf-8")


def test_page_is_complete_in_itself(page):
    parsed = Page(page)

    fetched = [value for value in parsed.fetched if not value.startswith("data:")]
    outside = [value for value in parsed.links if not value.startswith(("#", "data:"))]
    assert (fetched, outside) == ([], [])
    assert not {"script", "link", "iframe", "object"} & set(parsed.tags)
    assert not re.search(r"@import|url\((?!#)", page)
    assert parsed.tags.count("svg") == 4
    assert len(page) < 600_000


def test_ids_are_unique_and_references_lead_somewhere(page):
    parsed = Page(page)

    assert len(parsed.ids) == len(set(parsed.ids))
    used = {
        *re.findall(r"url\(#([^)]+)\)", page),
        *(link[1:] for link in parsed.links if link[0] == "#"),
    }
    assert used <= set(parsed.ids)
    assert len(used) > 5


def test_labels_and_question_are_escaped(page):
    assert '<h1 class="question">Is 1 &lt; 2 &amp; why?</h1>' in page
    assert "&lt;b&gt;&amp;&quot;x&quot;</td>" in page
    assert LABEL not in page


def test_page_suits_phones_and_the_dark(page):
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "@media (prefers-color-scheme: dark)" in page
    assert "overflow-x: auto" in page  # tables scroll in themselves, the page does not


def test_text_of_figures_stays_text(page):
    assert re.search(r"<text[^>]*>test top-1 accuracy \(%\)</text>", page)


def test_page_says_whose_lisa_it_is(page):
    results = page[page.index("<h2>Results</h2>") : page.index("<h2>Cost</h2>")]
    assert statement.LISA_NOTE.partition(";")[0] in results  # not among the folded details


def test_marks_of_a_table():
    made = Table(["a", "b\nc"], [False, True], [["x", "yes"], ["y" * 50, "1 failed"]], best=1)

    text = webpage.block(made, "study", {})

    assert '<th scope="col" class="n">b<br>c</th>' in text
    assert '<tr><td class="t">x</td><td class="n yes">yes</td></tr>' in text
    assert f'<tr class="best"><td class="t wide">{"y" * 50}</td><td class="n bad">' in text


def test_an_empty_paragraph_leaves_nothing():
    assert webpage.block(Text(""), "study", {}) == ""


def test_figures_of_an_earlier_report_go_when_they_no_longer_apply(written, tmp_path):
    (tmp_path / "heatmap.png").write_bytes(b"old")
    made = study(axis("num_rpes", 0, 4), baseline={"num_rpes": 4})
    runs = results(made, tmp_path / "runs", lambda c, s: 0.5 + s / 100)

    report = build(made, PROFILE, expand(made, PROFILE), runs)
    drawings = compose.write_report(report, tmp_path).drawings

    assert list(drawings) == ["plot", "pareto"]
    assert not (tmp_path / "heatmap.png").exists()
