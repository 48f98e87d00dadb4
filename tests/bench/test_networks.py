"""The network benchmark: equal cost, and the command on small images."""

import csv
from pathlib import Path

import pytest
import torch

from attnlab.bench.cli import main
from attnlab.bench.networks import PatchMerging, QnAViTTiny, Swin
from attnlab.callbacks.complexity import forward_gflops


def test_the_swin_costs_what_qna_vit_tiny_costs() -> None:
    qna, swin = (forward_gflops(network(), (3, 224, 224)) / 2 for network in (QnAViTTiny, Swin))
    assert qna == pytest.approx(2.46, rel=0.02)  # as published
    assert swin == pytest.approx(qna, rel=0.01)


def test_merging_puts_the_tokens_of_a_square_side_by_side() -> None:
    merging = PatchMerging(2).double()
    x = torch.randn(3, 4, 6, 2, dtype=torch.float64)
    out = merging(x)
    assert out.shape == (3, 2, 3, 4)
    changed = x.clone()
    changed[:, 2, 5] += 1
    moved = (merging(changed) - out).abs().amax((0, 3)) > 1e-9
    assert moved.nonzero().tolist() == [[1, 2]]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--size", "32", "--batch", "1", "--rounds", "1", "--out", str(tmp_path)]
    assert main(["networks", *arguments]) == 0
    lines = (tmp_path / "networks.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("# ")))
    assert [row["network"] for row in rows] == ["qna_vit_tiny", "swin"]
    assert rows[1]["parameters"] == str(sum(p.numel() for p in Swin().parameters()))
    assert float(rows[0]["training_ratio"]) == 1
    for row in rows:
        assert row["forward_n"] == row["training_n"] == "1"
        assert float(row["training_peak_mib"]) >= float(row["saved_mib"]) > 0
    assert "| swin | " in (tmp_path / "networks.md").read_text()
    assert "networks.csv" in capsys.readouterr().out


def test_refuses_sizes_that_cannot_be_halved_four_times(capsys: pytest.CaptureFixture) -> None:
    assert main(["networks", "--size", "48"]) == 2
    assert capsys.readouterr().err == (
        "attnlab.bench: error: --size must be a multiple of 32, not 48\n"
    )
