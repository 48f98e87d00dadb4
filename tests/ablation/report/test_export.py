import csv
import math

import pytest

from attnlab.ablation.cells import Result, expand
from attnlab.ablation.report import export
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study

AXES = (axis("num_rpes", 0, 4), axis("kernel", "l2", "elu, soft"))
BASELINE = {"num_rpes": 4, "kernel": "l2"}


def value(cell, seed):
    if cell.labels == {"num_rpes": 0, "kernel": "elu, soft"}:
        return math.nan if seed == 1 else 0.1
    return 0.1 * cell.labels["num_rpes"] + (0.1 + 0.2) * (seed + 1) / 3


def report(tmp_path, skip=lambda _: False):
    made = study(*AXES, baseline=BASELINE, seeds=(0, 1))
    runs = results(made, tmp_path, value, skip)
    runs[0] = Result(runs[0].trial, runs[0].record, wall_s=21.0, workers=2)
    runs[1].record["metrics"]["val/top1"] = 0.25
    return build(made, PROFILE, expand(made, PROFILE), runs)


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_run_comes_back_with_every_digit(tmp_path):
    export.write_results(report(tmp_path), tmp_path / "results.csv")

    lines = read(tmp_path / "results.csv")
    made = report(tmp_path)
    expected = [(row, run) for row in made.rows for run in row.runs]
    assert len(lines) == len(expected) == 8
    for line, (row, run) in zip(lines, expected, strict=True):
        assert (int(line["num_rpes"]), line["kernel"]) == tuple(row.cell.labels.values())
        assert int(line["seed"]) == run.seed
        assert float(line["test/top1"]) == pytest.approx(run.value, abs=0, nan_ok=True)
        assert line["run_dir"] == str(run.run_dir)
        assert (line["steps"], line["epochs"], line["commit"]) == ("1300", "14", "0123456789abcdef")
        assert line["model/parameters"] == "104310"
    assert float(lines[0]["overhead_s"]) == 21.0 - 20.63
    assert [line["total_s"] for line in lines[:2]] == ["21.0", "21.04"]
    assert float(lines[1]["overhead_s"]) == pytest.approx(0.41, abs=1e-9)
    assert [line["workers"] for line in lines[:2]] == ["2", ""]
    assert [line["val/top1"] for line in lines].count("") == 7


def test_what_was_not_finite_is_nan_and_what_was_not_logged_is_empty(tmp_path):
    made = study(*AXES, baseline=BASELINE, seeds=(0,))
    runs = results(made, tmp_path, lambda c, s: 0.5)
    runs[0].record["metrics"]["test/top1"] = None
    del runs[1].record["metrics"]["test/top1"]

    export.write_results(build(made, PROFILE, expand(made, PROFILE), runs), tmp_path / "r.csv")

    assert [line["test/top1"] for line in read(tmp_path / "r.csv")] == ["nan", "", "0.5", "0.5"]


def test_summary_has_a_line_per_cell_with_its_difference(tmp_path):
    made = report(tmp_path, lambda t: t.cell.labels == BASELINE and t.seed == 1)
    export.write_summary(made, tmp_path / "summary.csv")

    first, failed, baseline, last = read(tmp_path / "summary.csv")
    assert (first["n"], first["pairs"]) == ("2", "1")
    assert float(first["difference"]) == pytest.approx(-0.4)
    assert first["low95"] == first["high95"] == ""
    assert (failed["n"], failed["failed"], failed["difference"]) == ("1", "1", "")
    assert (baseline["n"], baseline["missing"], baseline["baseline"]) == ("1", "1", "True")
    assert baseline["std"] == ""
    assert float(last["std"]) == pytest.approx(0.1 / math.sqrt(2))
    assert float(last["perf/peak_memory_mib"]) == 612.4


def test_nothing_finished_leaves_only_headings(tmp_path):
    export.write_results(report_of_nothing(), tmp_path / "results.csv")

    header, *lines = (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("num_rpes,kernel,seed,steps")
    assert lines == []


def report_of_nothing():
    made = study(*AXES, baseline=BASELINE)
    return build(made, PROFILE, expand(made, PROFILE), [])
