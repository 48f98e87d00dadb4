import re
import shutil
import subprocess

import pytest

from attnlab.ablation.cells import expand
from attnlab.ablation.report import latex
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study

NASTY = r"50%_of {a}\b & $x$ #1 ~^<>"
VALUES = {0: (0.50, 0.55, 0.51), 4: (0.70, 0.72, 0.71)}


def report(tmp_path, label=0, skip=lambda _: False, **changes):
    made = study(axis("num_rpes", label, 4), baseline={"num_rpes": 4}, **changes)
    runs = results(
        made, tmp_path, lambda c, s: VALUES[4 if c.labels["num_rpes"] == 4 else 0][s], skip
    )
    return build(made, PROFILE, expand(made, PROFILE), runs)


def test_table_has_the_rules_of_booktabs_and_a_line_per_cell(tmp_path):
    lines = latex.table(report(tmp_path)).splitlines()

    rules = [line for line in lines if line.endswith("rule")]
    assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", "\n".join(lines))
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert [line.count(" & ") for line in body] == [len(columns) - 1] * 2
    assert body[0].startswith(
        r"0 & 52.00 $\pm$ 2.65 (3) & 2 (2.0) & $-$19.00 [$-$21.69, $-$13.62] & 4.30 & 0.003 & yes"
    )
    assert body[1].startswith(r"\textbf{4} & \textbf{71.00 $\pm$ 1.00 (3)}")


def test_caption_says_n_what_is_missing_and_whose_lisa_it_is(tmp_path):
    text = latex.table(report(tmp_path, skip=lambda t: t.seed == 2))

    assert "over 3 seeds (n); 2 of 6 runs are missing" in text
    assert "independent operator built from the published abstracts" in text


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ("50%_a", r"50\%\_a"),
        (r"{\}", r"\{\textbackslash{}\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ("-1.5 [-2, +1]", "$-$1.5 [$-$2, +1]"),
        ("depth-wise 3-4", "depth-wise 3-4"),  # no sign
        ("< 0.001", r"\textless{} 0.001"),
    ],
)
def test_escape(plain, expected):
    assert latex.escape(plain) == expected


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_it_compiles_with_any_label(tmp_path):
    made = report(tmp_path, NASTY, question=f"Why {NASTY}?", name="a_b")
    page = (
        r"\documentclass{article}\usepackage{booktabs}\begin{document}"
        f"{latex.table(made)}"
        r"\end{document}"
    )
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")

    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "page.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout
