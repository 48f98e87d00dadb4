"""The named sizes on the real command line, where the number of classes is linked to the model."""

import sys
from pathlib import Path

import pytest
import yaml

from attnlab.cli import main


def config(backbone: str, image_size: int, **options: object) -> dict:
    spec = {"class_path": backbone, "init_args": {"image_size": image_size, **options}}
    task = "attnlab.tasks.classification.ClassificationTask"
    return {
        "model": {"class_path": task, "init_args": {"backbone": spec}},
        "data": {"class_path": "attnlab.data.digits8.Digits8"},
        "trainer": {"accelerator": "cpu"},
    }


def check(tmp_path: Path, capsys: pytest.CaptureFixture, base: dict, *arguments: str) -> None:
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump(base))
    run_dir = ["--run_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(path), *run_dir, "--check", "true", *arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 0, captured.err
    assert "configuration is valid" in captured.out


@pytest.fixture(autouse=True)
def plain_argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["attnlab"])


@pytest.mark.parametrize("name", ["lisa_vit.lisa_vit_tiny", "qna_vit.qna_vit_tiny"])
def test_a_file_names_a_size(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    check(tmp_path, capsys, config(f"attnlab.models.{name}", image_size=32, drop_path=0.0))


@pytest.mark.parametrize("name", ["lisa_vit.lisa_vit_tiny", "qna_vit.qna_vit_tiny"])
def test_a_study_puts_a_size_in_place_of_a_backbone(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mixer = {"class_path": "attnlab.operators.baselines.SelfAttention"}
    base = config("attnlab.backbones.lisa_vit.LisaViT", image_size=8, width=6, mixer=mixer)
    check(tmp_path, capsys, base, f"--model.backbone=attnlab.models.{name}")
