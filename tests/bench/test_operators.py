"""The operator benchmark from its command line, on tiny maps."""

import csv
import io
import sys
from pathlib import Path

import pytest
import torch

from attnlab.bench.cli import main
from attnlab.bench.measure import FORWARD, Limits, measure
from attnlab.bench.subjects import SUBJECTS, UNIT, Cell, Setting
from attnlab.bench.tables import figures

COLUMNS = [
    *("map", "window", "subject"),
    *("forward_ms", "forward_ms_q1", "forward_ms_q3"),
    *("forward_ratio", "forward_ratio_q1", "forward_ratio_q3", "forward_n"),
    *("training_ms", "training_ms_q1", "training_ms_q3"),
    *("training_ratio", "training_ratio_q1", "training_ratio_q3", "training_n"),
    *("saved_mib", "forward_peak_mib", "training_peak_mib", "note"),
]
SETTING = Setting(2, 8, torch.float32, torch.device("cpu"))
BY_NAME = {subject.name: subject for subject in SUBJECTS}


def run(tmp_path: Path, *arguments: str) -> tuple[list[str], dict[tuple[str, ...], dict]]:
    tiny = ["--dim", "8", "--batch", "2", "--rounds", "3", "--budget", "0"]
    assert main(["operators", *tiny, "--out", str(tmp_path), *arguments]) == 0
    text = (tmp_path / "operators.csv").read_text()
    head = [line for line in text.splitlines() if line.startswith("# ")]
    rest = "\n".join(line for line in text.splitlines() if not line.startswith("# "))
    reader = csv.DictReader(io.StringIO(rest))
    assert reader.fieldnames == COLUMNS
    return head, {(row["map"], row["window"], row["subject"]): row for row in reader}


def test_one_row_per_cell_and_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "natten", None)  # not installed, wherever this runs
    quick = [name for name in BY_NAME if name not in (UNIT, "FlexAttention")]
    head, rows = run(tmp_path, "--maps", "7", "--windows", "3", "5", "--only", *quick)
    assert list(rows) == [("7", window, name) for window in "35" for name in (UNIT, *quick)]
    facts = {line[2:].partition(": ")[0] for line in head}
    assert {"Command", "Hardware", "Threads", "Versions", "Code", "Setting"} <= facts
    one_map = 7 * 7 * 8 * 4 / 2**20  # MiB of an image's tokens
    for (_, _, name), row in rows.items():
        if name == "NATTEN":
            assert row["note"].count("fails: ModuleNotFoundError") == 2
            assert row["forward_ms"] == row["training_ratio"] == row["saved_mib"] == ""
            continue
        assert not row["note"]
        assert float(row["training_ms_q1"]) <= float(row["training_ms"])
        assert float(row["training_ms"]) <= float(row["training_ms_q3"])
        assert float(row["training_peak_mib"]) >= float(row["saved_mib"]) > 0
        assert row["training_n"] == "3"
        if name == UNIT:
            assert float(row["forward_ratio"]) == float(row["training_ratio_q3"]) == 1
        elif name.startswith("convolution") and "mixer" not in name:
            assert float(row["saved_mib"]) == pytest.approx(one_map, abs=1e-3)  # only its input
    page = (tmp_path / "operators.md").read_text()
    assert "| window | 3 | 5 |" in page
    assert page.count("NATTEN, forward: fails: ModuleNotFoundError") == 1
    assert "![time and memory against the window](operators_7.png)" in page
    assert (tmp_path / "operators_7.png").stat().st_size > 10_000
    assert "7 x 7, window 5: QnA" in capsys.readouterr().out


def test_what_would_not_fit_is_skipped_and_says_so(tmp_path: Path) -> None:
    only = ["--only", "SASA, views", "--maps", "11", "--windows", "9"]
    _, rows = run(tmp_path, *only, "--max-gib", "0.0001")
    sasa, qna = rows["11", "9", "SASA, views"], rows["11", "9", UNIT]
    assert sasa["note"] == "forward skipped: about 0.0 GiB; training skipped: about 0.0 GiB"
    assert not sasa["forward_ms"]
    assert float(qna["forward_ms"]) > 0
    assert "skipped: about 0.0 GiB" in (tmp_path / "operators.md").read_text()


def test_time_is_foretold_from_the_largest_cell_so_far() -> None:
    limits, subject = Limits(max_s=10.0, max_bytes=1e12), BY_NAME["SASA, unfold"]
    small, large = Cell(7, 3), Cell(14, 9)  # 36 times the work
    assert limits.reason(subject, FORWARD, SETTING, large) == ""
    limits.note(subject, FORWARD, subject.work(SETTING, small), 0.5)
    assert limits.reason(subject, FORWARD, SETTING, large) == "skipped: about 18 s"
    assert limits.reason(subject, "training", SETTING, large) == ""
    assert limits.reason(subject, FORWARD, SETTING, Cell(7, 9)) == ""
    limits.note(subject, FORWARD, subject.work(SETTING, Cell(14, 5)), 0.5)
    limits.note(subject, FORWARD, subject.work(SETTING, small), 9.0)  # smaller: no news
    assert limits.reason(subject, FORWARD, SETTING, large) == ""


def test_memory_is_foretold_by_formula_until_it_was_weighed() -> None:
    subject, small, large = BY_NAME["dense attention, masked"], Cell(14, 9), Cell(56, 9)
    formula = [subject.memory(SETTING, cell) for cell in (small, large)]
    limits = Limits(max_s=10.0, max_bytes=formula[1] - 1)
    assert limits.reason(subject, FORWARD, SETTING, large).endswith(" GiB")
    limits.weigh(subject, SETTING, small, round(0.9 * formula[0]))
    assert limits.reason(subject, FORWARD, SETTING, large) == ""
    limits.weigh(subject, SETTING, Cell(28, 9), round(2 * subject.memory(SETTING, Cell(28, 9))))
    limits.weigh(subject, SETTING, small, 1)  # smaller: no news
    expected = 2 * formula[1] / 2**30
    assert limits.reason(subject, FORWARD, SETTING, large) == f"skipped: about {expected:.1f} GiB"


def test_ratios_are_to_qna_in_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    def interleave(calls, device, rounds, budget_s):
        times = {UNIT: [1.0, 2.0, 4.0], "convolution": [3.0, 4.0, 20.0]}
        return {name: times[name] for name in calls}

    monkeypatch.setattr("attnlab.bench.measure.interleave", interleave)
    subjects = [BY_NAME[UNIT], BY_NAME["convolution"]]
    rows = measure(SETTING, Cell(5, 3), subjects, Limits(9.0, 1e9), rounds=3, budget_s=1.0)
    assert [row.training.ratio.median for row in rows] == [1.0, 3.0]  # not 4 / 2
    assert rows[1].training.seconds.median == 4.0


@pytest.mark.parametrize(
    "name", [name for name in BY_NAME if name not in ("FlexAttention", "NATTEN")]
)
def test_every_subject_keeps_shape_and_layout(name: str) -> None:
    subject, cell = BY_NAME[name], Cell(7, 5)
    module, x = subject.module(SETTING, cell), subject.tokens(SETTING, cell)
    assert module(x).shape == x.shape
    assert x.shape == ((2, 8, 7, 7) if "bare" in subject.about else (2, 7, 7, 8))
    if subject.layout == "channels last":
        assert x.is_contiguous(memory_format=torch.channels_last)
    else:
        assert x.is_contiguous()
    assert subject.memory(SETTING, Cell(14, 5)) > subject.memory(SETTING, cell)
    assert subject.work(SETTING, Cell(14, 5)) > subject.work(SETTING, cell)


def test_window_attention_comes_in_the_heads_of_swin_and_of_qna() -> None:
    setting = Setting(1, 64, torch.float32, torch.device("cpu"))
    names = {"window attention": 2, "window attention, heads of 8": 8, UNIT: 8}
    for name, heads in names.items():
        assert BY_NAME[name].module(setting, Cell(7, 3)).heads == heads


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (123.4, "123"), (12345.0, "12300"), (0.0, "0")]
)
def test_three_figures_without_exponent(value: float, text: str) -> None:
    assert figures(value) == text
