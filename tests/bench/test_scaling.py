"""The scaling benchmark: its subjects, what it derives from known times, and the command."""

import csv
from pathlib import Path

import pytest
import torch

from attnlab.backbones.lisa_vit import LisaViT
from attnlab.bench import scaling_tables as tables
from attnlab.bench.cli import main
from attnlab.bench.measure import Row, Timing
from attnlab.bench.scaling import per_image
from attnlab.bench.scaling_plot import form_curves, peer_curves, scaling_figure
from attnlab.bench.scaling_subjects import SUBJECTS, UNIT, NaiveAttention, lisa_name
from attnlab.bench.subjects import Cell, Setting
from attnlab.bench.timing import spread
from attnlab.operators.base import MixerFactory
from attnlab.operators.baselines import SelfAttention
from attnlab.operators.lisa.module import LiSA
from attnlab.operators.lisa.options import APPROXIMATIONS

SETTING = Setting(2, 64, torch.float32, torch.device("cpu"))
BY_NAME = {subject.name: subject for subject in SUBJECTS}
FFT, MANY, FEW = lisa_name("fft"), lisa_name("fft", 8), lisa_name("fft", 1)
KNOWN = Timing(spread([3.0, 4.0, 5.0]), spread([0.5, 0.6, 0.8]))


def read(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# ")]
    return list(csv.DictReader(lines))


def law_rows() -> list[Row]:
    """Rows of two forms of LiSA whose times grow as N^1.1 and peaks as N, but not on 7 x 7."""
    rows = []
    for side in (7, 14, 28, 56, 112, 224):
        count = side**2 if 14 <= side <= 112 else 1
        took = Timing(spread([1e-6 * count**1.1]), spread([3 / side, 5 / side, 9 / side]))
        for name, peak in ((FEW, 1000), (FFT, 1500), (MANY, 2300)):
            rows.append(Row(Cell(side), name, training=took, training_peak=peak * count))
    return rows


def test_every_approximation_is_a_subject_and_fft_at_three_numbers_of_tables() -> None:
    assert {lisa_name(approximation) for approximation in APPROXIMATIONS} <= BY_NAME.keys()
    tables_of = {name: BY_NAME[name].build(SETTING, Cell(5)).num_rpes for name in (FEW, FFT, MANY)}
    assert tables_of == {FEW: 1, FFT: 4, MANY: 8}
    assert BY_NAME["linear attention"].build(SETTING, Cell(5)).num_rpes == 0
    wide = Setting(1, 192, torch.float32, torch.device("cpu"))
    assert BY_NAME[FFT].build(wide, Cell(3)).heads == 3


@pytest.mark.parametrize("name", list(BY_NAME))
def test_every_subject_maps_tokens_to_tokens(name: str) -> None:
    subject, cell = BY_NAME[name], Cell(5)
    module, x = subject.module(SETTING, cell), subject.tokens(SETTING, cell)
    assert module(x).shape == x.shape == (2, 5, 5, 64)
    assert subject.memory(SETTING, Cell(10)) > subject.memory(SETTING, cell)
    growth = subject.work(SETTING, Cell(112)) / subject.work(SETTING, Cell(56))
    quadratic = name in (UNIT, "naive attention", lisa_name("none"))
    assert (growth > 13) == quadratic


def test_naive_attention_is_self_attention() -> None:
    torch.manual_seed(3)
    naive = NaiveAttention(12, 3, (7, 5)).double()
    fused = SelfAttention(12, 3, (7, 5)).double()
    fused.load_state_dict(naive.state_dict())
    x = torch.randn(2, 7, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(naive(x), fused(x), rtol=1e-12, atol=1e-12)


def test_time_and_memory_are_per_image_and_ratios_are_not() -> None:
    row = Row(Cell(7), FFT, training=KNOWN, saved=1200, forward_peak=3000, training_peak=4400)
    mine = per_image(row, 4)
    took = mine.training.seconds
    assert (took.median, took.low, took.high, took.n) == (1.0, 0.875, 1.125, 3)
    assert mine.training.ratio == KNOWN.ratio
    assert (mine.saved, mine.forward_peak, mine.training_peak) == (300, 750, 1100)
    assert mine.forward is None


def test_exponents_are_those_of_the_maps_between_14_and_112() -> None:
    lines = {(line["subject"], line["measure"]): line for line in tables.fit_lines(law_rows())}
    assert lines.keys() == {
        (name, measure)
        for name in (FEW, FFT, MANY)
        for measure in ("training_ms", "training_peak_mib")
    }
    assert lines[FFT, "training_ms"] == {
        "subject": FFT, "measure": "training_ms", "exponent": 1.1, "residual": 0.0, "n": 4,
        "from_tokens": 196, "to_tokens": 12544,
    }  # fmt: skip
    assert lines[FFT, "training_peak_mib"]["exponent"] == 1.0


def test_key_figures() -> None:
    growth, ratios, memory = tables.key_figures(law_rows())
    assert growth.startswith(f"{FFT}: time of forward + backward as N^1.10 (14² to 112², n = 4,")
    assert "; its peak memory as N^1.00 (14² to 112², n = 4" in growth
    assert ratios.startswith(f"{FFT}, forward + backward in units of {UNIT}: 0.714 ± 0.21 at 7², ")
    assert ", 0.0446 ± 0.013 at 112²" in ratios
    assert memory.startswith("LiSA fft, peak at R=8 over R=1: 2.3 at 7², 2.3 at 14²")


def test_curves_share_colours_by_family_and_lisa_is_thick() -> None:
    peers = {curve.subject: curve for curve in peer_curves(SUBJECTS)}
    lisa = [curve for name, curve in peers.items() if name.startswith("LiSA")]
    assert {curve.subject for curve in lisa} >= {FFT, lisa_name("none")}
    assert len({curve.colour for curve in lisa}) == 1
    assert len({curve.linestyle for curve in lisa}) == len(lisa)
    others = [curve for curve in peers.values() if curve not in lisa]
    assert min(c.width for c in lisa) > max(c.width for c in others)
    assert lisa[0].colour not in {curve.colour for curve in others}
    assert peers[UNIT].colour == peers["naive attention"].colour
    assert peers[UNIT].linestyle != peers["naive attention"].linestyle
    forms = {curve.subject: curve for curve in form_curves(SUBJECTS)}
    assert {forms[name].colour for name in (FEW, FFT, MANY)} == {lisa[0].colour}
    assert forms[FFT].linestyle == forms[lisa_name("circular")].linestyle == "-"
    assert len({(curve.colour, curve.linestyle) for curve in forms.values()}) == len(forms)


def test_the_picture_leaves_out_what_did_not_run() -> None:
    rows = [Row(Cell(side), FFT, notes={"training": "fails"}) for side in (7, 14)]
    rows += [Row(Cell(side), UNIT, training=KNOWN, training_peak=side) for side in (7, 14)]
    time, memory, legend = scaling_figure(rows, SUBJECTS, "caption").axes
    assert [line.get_xdata().tolist() for line in time.get_lines()] == [[49, 196]]
    assert memory.get_lines()[0].get_ydata().tolist() == [7 / 2**20, 14 / 2**20]
    assert [text.get_text() for text in legend.get_legend().get_texts()] == [UNIT]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--grids", "17", "14", "--dim", "8", "--tokens", "400", "--rounds", "3"]
    arguments += ["--budget", "0", "--only", FFT, FEW, MANY, "naive attention", "XCA"]
    arguments += ["--max-gib", "0.001", "--out", str(tmp_path)]
    assert main(["scaling", *arguments]) == 0
    rows = {(row["side"], row["subject"]): row for row in read(tmp_path / "scaling.csv")}
    names = [FEW, FFT, MANY, UNIT, "naive attention", "XCA"]
    assert list(rows) == [(side, name) for side in ("14", "17") for name in names]
    for (side, name), row in rows.items():
        assert (row["tokens"], row["batch"]) == {"14": ("196", "2"), "17": ("289", "1")}[side]
        skipped = name in (MANY, "naive attention")
        assert ("training skipped: about 0.0 GiB" in row["note"]) == skipped
        assert (not row["training_ms"]) == skipped
        if skipped:
            continue
        assert float(row["training_ms_q1"]) <= float(row["training_ms"])
        assert float(row["training_peak_mib"]) >= float(row["saved_mib"]) > 0
    assert rows["14", UNIT]["training_ratio"] == "1.0"
    assert float(rows["14", "XCA"]["training_ratio"]) > 0
    fits = {(row["subject"], row["measure"]): row for row in read(tmp_path / "scaling_fits.csv")}
    assert fits["XCA", "training_ms"]["n"] == "2"
    page = (tmp_path / "scaling.md").read_text()
    assert "2 of 14², 1 of 17²" in page
    assert "| tokens | 14² | 17² | exponent |" in page
    assert "skipped: about 0.0 GiB" in page
    assert "this project's" in page
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    assert "17 x 17, ms per image: " in capsys.readouterr().out


def test_no_figures_of_lisa_where_it_did_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["--grids", "4", "--dim", "8", "--rounds", "1", "--only", FFT]
    assert main(["scaling", *arguments, "--max-gib", "0", "--out", str(tmp_path)]) == 0
    assert "Key figures" not in (tmp_path / "scaling.md").read_text()
    written = [path.name for path in tmp_path.iterdir()]
    assert sorted(written) == ["scaling.csv", "scaling.md", "scaling.png", "scaling.svg"]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{tmp_path}: scaling.md, scaling.csv, scaling.png, scaling.svg"


def test_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(mixer: MixerFactory = LiSA, **options: object) -> LisaViT:
        return LisaViT(mixer, width=12, depth=1, heads=3, **options)

    monkeypatch.setattr("attnlab.bench.scaling_networks.lisa_vit_small", small)
    arguments = ["--networks", "--sizes", "48", "32", "--tokens", "9", "--rounds", "1"]
    assert main(["scaling", *arguments, "--out", str(tmp_path)]) == 0
    rows = read(tmp_path / "scaling_networks.csv")
    found = [(row["size"], row["batch"], row["network"]) for row in rows]
    assert found == [
        (size, batch, name)
        for size, batch in (("48", "1"), ("32", "2"))
        for name in ("lisa_vit_small", "DeiT-S")
    ]
    assert rows[1]["training_ratio"] == "1.0"
    assert "## 32 x 32 pixels, 2 in a batch" in (tmp_path / "scaling_networks.md").read_text()
