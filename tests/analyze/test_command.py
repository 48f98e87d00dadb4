"""``attnlab analyze`` as users call it, on a small run."""

import csv
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from attnlab.ablation.report import style
from attnlab.analysis.redundancy import analyse
from attnlab.analyze.command import main
from attnlab.cli import main as attnlab
from tests.callbacks.test_analysis import task
from tests.doubles import NoiseData
from tests.test_cli import BASE

MODEL = {
    "class_path": "attnlab.tasks.classification.ClassificationTask",
    "init_args": {
        "backbone": {
            "class_path": "attnlab.backbones.lisa_vit.LisaViT",
            "init_args": {
                "mixer": {"class_path": "attnlab.operators.lisa.LiSA"},
                "image_size": 8,
                "patch_size": 2,
                "in_channels": 1,
                "width": 12,
                "depth": 2,
                "heads": 2,
                "mlp_ratio": 2,
            },
        }
    },
}


SAMPLES = ["--samples", "21", "--kernel_samples", "3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run: its configuration and its checkpoint."""
    root = tmp_path_factory.mktemp("run")
    (root / "small.yaml").write_text(yaml.safe_dump(BASE | {"model": MODEL}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["attnlab"])
        attnlab(["fit", "--config", str(root / "small.yaml"), "--run_dir", str(root / "done")])
    return root / "done"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style, "DPI", 20)  # pictures are most of the time


def error_of(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    return lines[0].partition("error: ")[2]


def test_everything_is_written_beside_the_run(run, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    points = ["--queries", "7,0", "3,4"]
    main(["--ckpt", str(run / "checkpoints/last.ckpt"), *SAMPLES, *points])
    out = run / "analysis"
    check_summary(out / "summary.csv", run, NoiseData().test_dataloader())
    names = {path.name for path in out.iterdir() if not path.name.startswith("events")}
    pictures = {"layers", "measures", "kernels_7_0", "kernels_3_4"}
    pictures |= {f"learnt_blocks.{k}_{kind}" for k in (0, 1) for kind in ("composing", "encoding")}
    files = {"summary", "kernels", "heads", "cka", "kernel_similarity", "query_kernels"}
    assert names == {f"{each}.png" for each in pictures} | {f"{each}.csv" for each in files}
    assert all(path.read_bytes() == content for path, content in before.items())

    shown = capsys.readouterr().out
    assert "blocks.1" in shown
    assert "not a reproduction" in " ".join(shown.split())
    assert all(name in "".join(shown.split()) for name in names)
    for picture in out.glob("*.png"):
        with Image.open(picture) as image:
            assert image.width == 160
            assert image.convert("RGB").getpixel((image.width - 1, image.height - 1)) == (
                255,
                255,
                255,
            )
    events = EventAccumulator(str(out)).Reload()
    assert set(events.Tags()["images"]) == {f"diag/{each}" for each in pictures}
    assert events.Scalars("diag/cka")[-1].step == 8


def check_summary(path: Path, run: Path, loader: DataLoader) -> None:
    """Compare with the weights of the checkpoint on the first 21 samples of a loader."""
    trained = task()
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    trained.load_state_dict(state)
    (first, _), (second, _) = loader
    expected = analyse(trained, [first, second[:5]], kernel_samples=3).summary()
    with path.open(newline="") as file:
        found = {line["tag"]: float(line["value"]) for line in csv.DictReader(file)}
    assert found == pytest.approx(expected, rel=1e-4)
    assert len(found) == 7


def test_other_split_configuration_and_further_arguments(run, tmp_path):
    moved = tmp_path / "w.ckpt"
    moved.write_bytes((run / "checkpoints/last.ckpt").read_bytes())
    config = ["--config", str(run / "config.yaml"), "--out", "o"]
    mixer = "--model.backbone.mixer.approximation=none"  # the same function, another way
    main(["--ckpt", str(moved), *config, mixer, *SAMPLES, "--split", "val"])
    check_summary(Path("o/summary.csv"), run, NoiseData().val_dataloader())
    assert not Path("runs").exists()


def test_mixers_without_a_kernel_are_named(run, capsys, tmp_path):
    config = yaml.safe_load((run / "config.yaml").read_text())
    backbone = config["model"]["init_args"]["backbone"]["init_args"]
    backbone["mixer"] = {"class_path": "tests.analysis.test_redundancy.NoKernel"}
    fresh = {name: v for name, v in task().state_dict().items() if ".mixer." not in name}
    torch.save({"state_dict": fresh, "global_step": 5}, tmp_path / "k.ckpt")
    Path("config.yaml").write_text(yaml.safe_dump(config))
    main(["--ckpt", "k.ckpt"])
    assert "blocks.0: NoKernel has no kernel over tokens" in capsys.readouterr().out
    assert {path.name for path in Path("analysis").glob("*.*g")} == {"layers.png"}
    assert {path.name for path in Path("analysis").glob("*.csv")} == {"summary.csv", "cka.csv"}


def test_bad_input_is_one_line(run, capsys, tmp_path):
    checkpoint = run / "checkpoints/last.ckpt"
    assert error_of(capsys, "--ckpt", "no.ckpt") == "ckpt='no.ckpt' is not there"
    Path("broken.ckpt").write_text("no checkpoint")
    assert error_of(capsys, "--ckpt", "broken.ckpt").startswith("no config.yaml beside ckpt=")
    config = ["--config", run / "config.yaml", "--out", "o"]
    assert "is not a checkpoint" in error_of(capsys, "--ckpt", "broken.ckpt", *config)
    torch.save({"weights": 3}, "bare.ckpt")
    assert "has no state_dict" in error_of(capsys, "--ckpt", "bare.ckpt", *config)
    missing = error_of(capsys, "--ckpt", checkpoint, "--config", "none.yaml")
    assert missing == "config='none.yaml' is not there"
    wider = error_of(capsys, "--ckpt", checkpoint, "--out", "o", "--model.backbone.width=24")
    assert "is of another network than the configuration's" in wider
    unknown = error_of(capsys, "--ckpt", checkpoint, "--out", "o", "--nonsense=3")
    assert unknown == "unrecognized arguments: --nonsense=3"
    outside = error_of(capsys, "--ckpt", checkpoint, "--out", "o", "--queries", "8,0")
    assert outside == "query=8,0 lies outside the 8x8 image"
    assert "invalid query value" in error_of(capsys, "--ckpt", checkpoint, "--queries", "8")
    few = error_of(capsys, "--ckpt", checkpoint, "--out", "o", "--samples", "3")
    assert few == "samples=3 must be at least 4"
    image = error_of(capsys, "--ckpt", checkpoint, "--image", "23", "--out", "o")
    assert image == "image=23 must be below the 23 samples there are"
    assert not list(Path("o").glob("*.csv"))


def test_networks_without_mixers_are_refused(run, capsys):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"]["backbone"] = {"class_path": "tests.analyze.bare.BareBackbone"}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    from attnlab.tasks.classification import ClassificationTask
    from tests.analyze.bare import BareBackbone

    torch.save({"state_dict": ClassificationTask(BareBackbone(), 7).state_dict()}, "b.ckpt")
    assert "has no token mixer" in error_of(capsys, "--ckpt", "b.ckpt")
