"""From a tree on disk to a tested network, by the commands that a newcomer types."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from attnlab.cli import main

ROOT = Path(__file__).parents[1]
IMAGENET = [
    *("--data.num_classes=4", "--data.batch_size=4", "--data.num_workers=1"),
    *("--data.train_transform.size=32", "--data.eval_transform.size=32"),
    "--model.backbone.image_size=32",
]
SSV2 = [
    *("--data.num_classes=8", "--data.batch_size=2", "--data.num_workers=1"),
    *("--data.frames=4", "--model.backbone.frames=4"),
    *("--data.train_transform.size=32", "--model.backbone.image_size=32"),
]
CASES = {
    "imagenet/300_epochs/lisa_vit_tiny": ("imagenet", IMAGENET),
    "imagenet/300_epochs/qna_vit_tiny": ("imagenet", IMAGENET),
    "cifar/30_epochs/lisa_cifar10": ("cifar10", ["--data.batch_size=16"]),
    "cifar/30_epochs/qna_cifar10": ("cifar10", ["--data.batch_size=16"]),
    "ssv2/lisa_vit_tiny_tsm": ("ssv2", SSV2),
    "ssv2/qna_vit_tiny_tubelet3d": ("ssv2", SSV2),
}
SHORT = [
    *("--trainer.max_epochs=1", "--trainer.limit_train_batches=2"),
    *("--trainer.limit_val_batches=2", "--trainer.limit_test_batches=2"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
    *("--trainer.log_every_n_steps=1", "--trainer.num_sanity_val_steps=0"),
]

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*differs from the published", "ignore:.*persistent_workers"
)


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trees")
    main(["demo-data", "imagenet", f"{folder}/imagenet", "--classes=4", "--train=4", "--val=2"])
    main(["demo-data", "cifar10", f"{folder}/cifar10", "--train=200", "--test=40"])
    main(["demo-data", "ssv2", f"{folder}/ssv2", "--train=24", "--val=4", "--frames=6"])
    return folder


@pytest.fixture(autouse=True)
def somewhere_else(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["attnlab"])
    monkeypatch.setenv("ATTNLAB_CACHE", str(tmp_path / "cache"))


def error_of(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    return lines[0].removeprefix("attnlab: error: ")


@pytest.mark.parametrize("name", CASES)
def test_fit_and_test_on_a_demo_tree(name, trees):
    tree, options = CASES[name]
    config = f"{ROOT}/experiments/{name}.yaml"
    where = [f"--data.root={trees / tree}", "--run_dir=run", *options]
    main(["fit", "--config", config, *where, *SHORT])
    metrics = json.loads(Path("run/result.json").read_text())["metrics"]
    assert {"val/top1", "val/loss", "train/loss"} <= set(metrics)
    main(["test", "--config=run/config.yaml", "--ckpt_path=run/checkpoints/last.ckpt"])
    metrics = json.loads(Path("run/test.json").read_text())["metrics"]
    assert 0 <= metrics["test/top1"] <= 1
    assert metrics["test/loss"] > 0
    assert ("test/mean_class" in metrics) == (tree == "ssv2")


def broken(trees: Path, tmp_path: Path) -> Path:
    """Return the ImageNet tree with a cut image and a web page in place of another."""
    copy = tmp_path / "broken"
    main(["demo-data", "imagenet", str(copy), "--classes=4", "--train=9", "--val=2"])
    first, second = sorted((copy / "train").glob("*/*.JPEG"))[5:7]
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    second.write_text("<!DOCTYPE html><title>404</title>")
    return copy


def test_corrupt_images_are_counted_or_named(trees, tmp_path, capsys):
    config = f"{ROOT}/experiments/imagenet/300_epochs/lisa_vit_tiny.yaml"
    root = broken(trees, tmp_path)
    arguments = ["--config", config, f"--data.root={root}", *IMAGENET, *SHORT]
    arguments += ["--data.batch_size=8", "--trainer.limit_train_batches=9"]
    arguments += ["--trainer.limit_val_batches=9"]
    message = error_of(capsys, "fit", *arguments, "--run_dir=strict")
    assert message.startswith("sample ")
    assert ".JPEG: " in message
    with pytest.warns(UserWarning, match="skipped .*JPEG: "):
        main(["fit", *arguments, "--run_dir=lenient", "--data.on_error=skip"])
    metrics = json.loads(Path("lenient/result.json").read_text())["metrics"]
    assert metrics["diag/skipped_train"] + metrics["diag/skipped_val"] == 2


def test_an_exclude_list_is_what_validation_writes(trees, tmp_path):
    config = f"{ROOT}/experiments/imagenet/300_epochs/lisa_vit_tiny.yaml"
    root = broken(trees, tmp_path)
    short = [f"--data.root={root}", "--data.num_classes=4"]
    with pytest.raises(SystemExit) as stop:
        main(["validate-data", f"--config={config}", *short, "--workers=0", "--out=report"])
    assert stop.value.code == 1
    assert len(Path("report/exclude.txt").read_text().splitlines()) == 2
    report = json.loads(Path("report/report.json").read_text())
    assert len(report["problems"]) == 2
    arguments = ["--config", config, f"--data.root={root}", *IMAGENET, *SHORT, "--run_dir=run"]
    main(["fit", *arguments, "--data.exclude=report/exclude.txt", "--data.batch_size=8"])
    assert Path("run/result.json").exists()


def test_data_that_are_not_there_are_one_line(trees, capsys):
    config = f"{ROOT}/experiments/imagenet/300_epochs/lisa_vit_tiny.yaml"
    message = error_of(capsys, "fit", "--config", config, "--data.root=nowhere")
    assert "root='nowhere' does not exist" in message
    message = error_of(capsys, "fit", "--config", config, f"--data.root={trees / 'imagenet'}")
    assert "num_classes=1000" in message
    assert "4" in message
    small = [f"--data.root={trees / 'imagenet'}", *IMAGENET, "--data.batch_size=99"]
    message = error_of(capsys, "fit", "--config", config, *small)
    assert message == "batch_size=99 must not exceed the 12 training samples"


def test_weights_are_averaged_by_lightnings_callback(trees):
    config = f"{ROOT}/experiments/cifar/30_epochs/lisa_cifar10.yaml"
    average = {
        "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
        "init_args": {"decay": 0.0},
    }
    fixed = ["--data.root", str(trees / "cifar10"), "--data.batch_size=16", *SHORT]
    results = []
    for number, init_args in enumerate(({"decay": 0.0}, {"decay": 1.0}, None)):
        path = Path(f"callback{number}.yaml")
        callbacks = [average | {"init_args": init_args}] if init_args else []
        path.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
        run = ["--run_dir", f"run{number}", "--test_after_fit=true"]
        main(["fit", "--config", config, "--config", str(path), *fixed, *run])
        metrics = json.loads(Path(f"run{number}/result.json").read_text())["metrics"]
        results.append(metrics["test/loss"])
    latest, first, plain = results
    assert latest == pytest.approx(plain, rel=1e-5)  # an average without memory
    assert first != pytest.approx(plain, rel=1e-3)  # one that keeps the first weights


def test_demo_data_refuse_what_makes_no_sense(trees, capsys):
    assert "holds files" in error_of(capsys, "demo-data", "imagenet", str(trees / "imagenet"))
    assert "classes" in error_of(capsys, "demo-data", "imagenet", "new", "--classes=x")
    assert "invalid choice: 'coco'" in error_of(capsys, "demo-data", "coco", "new")
    assert not Path("new").exists()
