"""Every experiment trains a step on data of its own kind, and says what it costs."""

import sys
from pathlib import Path

import pytest
import yaml

from attnlab.cli import main
from attnlab.data.demo import cifar, imagenet, ssv2

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.yaml"))

IMAGE, CLIP = "attnlab.data.imagenet.ImageNet", "attnlab.data.something_v2.SomethingV2"
CIFAR10, CIFAR100 = "attnlab.data.cifar.CIFAR10", "attnlab.data.cifar.CIFAR100"
SMALL = {
    IMAGE: [
        *("--data.num_classes=5", "--data.batch_size=2", "--data.num_workers=0"),
        *("--data.train_transform.size=32", "--data.eval_transform.size=32"),
        "--model.backbone.image_size=32",
    ],
    CLIP: [
        *("--data.num_classes=8", "--data.batch_size=2", "--data.num_workers=0"),
        *("--data.frames=4", "--model.backbone.frames=4"),
        *("--data.train_transform.size=32", "--model.backbone.image_size=32"),
    ],
    CIFAR10: ["--data.batch_size=4", "--data.num_workers=0"],
    CIFAR100: ["--data.batch_size=4", "--data.num_workers=0"],
    "attnlab.data.digits8.Digits8": [],
}
EMBEDDED = [f"--data.{split}_size=64" for split in ("train", "val", "test")]


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """Return a small tree on disk for each data module that reads one."""
    folder = tmp_path_factory.mktemp("data")
    imagenet.write(folder / "imagenet", classes=5, train=4, val=2)
    ssv2.write(folder / "ssv2", train=24, val=4, test=2, frames=6, height=36, width=48)
    cifar.write(folder / "cifar10", train=100, test=20)
    cifar.write(folder / "cifar100", train=300, test=100, classes=100)
    return {
        IMAGE: folder / "imagenet",
        CLIP: folder / "ssv2",
        CIFAR10: folder / "cifar10",
        CIFAR100: folder / "cifar100",
    }


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["attnlab"])
    monkeypatch.setenv("ATTNLAB_CACHE", str(tmp_path / "cache"))


def named(folder: str) -> set[str]:
    return {path.stem for path in (ROOT / "experiments" / folder).glob("*.yaml")}


def test_all_presets_are_there():
    lisa = {f"lisa_vit_{size}" for size in ("tiny", "small", "base")}
    lisa |= {"lisa_pyramid_small", "lisa_pyramid_base"}
    qna = {f"qna_vit_{size}" for size in ("tiny", "tiny_7x7", "small", "base")}
    for epochs in (300, 100, 30):
        assert named(f"imagenet/{epochs}_epochs") == lisa | qna
    assert named("imagenet/official") == named("qna") == qna
    for epochs in (300, 30):
        assert named(f"cifar/{epochs}_epochs") == {
            f"{operator}_cifar{classes}" for operator in ("lisa", "qna") for classes in (10, 100)
        }
    modes = {f"{name}_{mode}" for name in ("lisa_vit_small", "qna_vit_tiny") for mode in MODES}
    assert named("ssv2") == modes | {"lisa_vit_tiny_tsm"}
    assert {"lisa_pair", "lisa_clutter", "qna_pair"} <= named("laptop")


MODES = ("tsm", "tubelet3d")


@pytest.mark.filterwarnings(
    "ignore:.*differs from the published", "ignore:.*precision.*", "ignore:.*bfloat16.*"
)
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_experiment_trains_a_step_and_says_what_it_costs(path, tmp_path, roots):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    command = next(line for line in header if line.startswith("# Command:"))
    assert str(path.relative_to(ROOT)) in command
    assert any(line.startswith("# Cost:") and line[11:].strip() for line in header)
    assert any(line.startswith("# Expected:") and line[12:].strip() for line in header)
    options = ["--run_dir", str(tmp_path / "run"), "--trainer.fast_dev_run", "true"]
    data = yaml.safe_load(path.read_text())["data"]["class_path"]
    options += SMALL.get(data, EMBEDDED)
    if data in roots:
        assert "--data.root DIR" in command
        options += [f"--data.root={roots[data]}"]
    main(["fit", "--config", str(path), *options])


def spec_of(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    "path",
    [path for path in EXPERIMENTS if path.parts[-3] == "imagenet" or path.parts[-2] == "ssv2"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_network_and_data_agree_on_the_size(path):
    spec = spec_of(path)
    network = spec["model"]["init_args"]["backbone"]["init_args"]
    data = spec["data"]["init_args"]
    size = network["image_size"]
    assert data["train_transform"]["init_args"]["size"] == size
    if "eval_transform" in data:
        assert data["eval_transform"]["init_args"]["size"] == size
    assert data.get("frames") == network.get("frames")
    assert network["drop_path"] >= 0
    if path.parts[-2].endswith("_epochs"):
        assert f"{spec['trainer']['max_epochs']}_epochs" == path.parts[-2]


@pytest.mark.parametrize("epochs", [300, 100, 30])
def test_imagenet_presets_share_one_recipe(epochs):
    recipes = []
    for path in sorted((ROOT / f"experiments/imagenet/{epochs}_epochs").glob("*.yaml")):
        spec = spec_of(path)
        del spec["model"]["init_args"]["backbone"]
        recipes.append(spec)
    assert all(recipe == recipes[0] for recipe in recipes)
    model, trainer = recipes[0]["model"]["init_args"], recipes[0]["trainer"]
    assert model["optimizer"]["init_args"]["lr"] == 1e-3
    assert model["optimizer"]["init_args"]["weight_decay"] == 0.05
    schedule = model["schedule"]["init_args"]
    assert schedule["warmup"] * 300 == pytest.approx(20, rel=1e-3)
    assert schedule["floor"] * 1e-3 == pytest.approx(1e-5)
    assert (model["label_smoothing"], trainer["gradient_clip_val"]) == (0.1, 5.0)


RECIPES = {  # drop path, epochs of warm-up in 300
    "qna_vit_tiny": (0.05, 5),
    "qna_vit_tiny_7x7": (0.05, 5),
    "qna_vit_small": (0.2, 5),
    "qna_vit_base": (0.5, 20),
}


@pytest.mark.parametrize("folder", ["qna", "imagenet/official"])
@pytest.mark.parametrize("name", RECIPES)
def test_qna_networks_are_trained_by_their_published_recipe(name, folder):
    spec = spec_of(ROOT / f"experiments/{folder}/{name}.yaml")
    model, batch = spec["model"]["init_args"], spec["data"]["init_args"]["batch_size"]
    if folder == "imagenet/official":
        batch *= 8  # devices
    drop_path, warmup = RECIPES[name]
    assert model["backbone"]["class_path"] == f"attnlab.models.qna_vit.{name}"
    assert model["backbone"]["init_args"]["drop_path"] == drop_path
    assert model["schedule"]["init_args"]["warmup"] == pytest.approx(warmup / 300, rel=0.01)
    optimizer = model["optimizer"]["init_args"]
    assert optimizer["lr"] == pytest.approx(5e-4 * batch / 256)
    assert (optimizer["betas"], optimizer["eps"]) == ([0.9, 0.999], 1e-8)
    assert (optimizer["weight_decay"], model["label_smoothing"]) == (0.05, 0.1)
    assert "gradient_clip_val" not in spec["trainer"]
