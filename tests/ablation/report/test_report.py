import io
import subprocess
import sys
from contextlib import redirect_stdout
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image

from attnlab.ablation import report
from attnlab.ablation.cells import expand
from tests.ablation.report.fakes import PROFILE, axis, results, study, write_curve


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Directory of a report, what was printed, and where its runs lie."""
    tmp_path = tmp_path_factory.mktemp("study")
    made = study(axis("num_rpes", 0, 1, 4), baseline={"num_rpes": 4})
    runs = results(made, tmp_path / "runs", lambda c, s: 0.5 + c.labels["num_rpes"] / 10 + s / 100)
    for result in runs:
        write_curve(result.trial.run_dir, 0.6)
    out_dir = tmp_path / "new" / "report"
    settings = dict(matplotlib.rcParams)
    with redirect_stdout(io.StringIO()) as stream:
        report.write(made, PROFILE, expand(made, PROFILE), runs, out_dir)
    assert dict(matplotlib.rcParams) == settings
    return out_dir, stream.getvalue(), tmp_path / "runs"


def test_write_leaves_all_files_and_prints(written):
    out_dir, printed, _ = written

    assert sorted(path.name for path in out_dir.iterdir()) == [
        "curves.png",
        "curves.svg",
        "pareto.png",
        "pareto.svg",
        "plot.png",
        "plot.svg",
        "report.html",
        "report.md",
        "results.csv",
        "results.tex",
        "summary.csv",
    ]
    assert "This study separates its cells" in printed
    assert "report.md" in printed


def test_the_table_is_shown_even_where_nothing_can_be_written(tmp_path):
    made = study(axis("num_rpes", 0, 4), baseline={"num_rpes": 4})
    runs = results(made, tmp_path, lambda c, s: 0.5 + c.labels["num_rpes"] / 10 + s / 100)
    (tmp_path / "file").touch()

    with redirect_stdout(io.StringIO()) as stream, pytest.raises(NotADirectoryError):
        report.write(made, PROFILE, expand(made, PROFILE), runs, tmp_path / "file" / "report")

    assert "This study separates its cells" in stream.getvalue()


@pytest.mark.parametrize(("stem", "size"), [("plot", (1600, 964)), ("curves", (1600, 904))])
def test_pictures_have_their_size_and_are_not_blank(written, stem, size):
    with Image.open(written[0] / f"{stem}.png") as image:
        assert image.size == size
        low, high = image.convert("L").getextrema()
    assert (low < 50, high) == (True, 255)
    svg = ElementTree.parse(written[0] / f"{stem}.svg").getroot()
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(svg.findall(".//{http://www.w3.org/2000/svg}path")) > 20


def test_same_study_gives_the_same_bytes(written, tmp_path):
    out_dir, _, run_dir = written
    made = study(axis("num_rpes", 0, 1, 4), baseline={"num_rpes": 4})
    runs = results(made, run_dir, lambda c, s: 0.5 + c.labels["num_rpes"] / 10 + s / 100)

    report.write(made, PROFILE, expand(made, PROFILE), runs, tmp_path)

    for path in sorted(out_dir.iterdir()):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_import_is_cheap():
    code = "import sys, attnlab.ablation.report; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "attnlab.ablation.report" in loaded
    assert not {"matplotlib", "scipy", "numpy", "rich", "torch"} & set(loaded)
