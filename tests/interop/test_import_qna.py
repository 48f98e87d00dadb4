"""``import-qna`` from the official file to a test run, and everything it refuses."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attnlab.cli import main
from attnlab.interop.flax import load_qna_vit
from attnlab.interop.flax_published import PUBLISHED
from attnlab.interop.import_qna import MODELS
from attnlab.tasks.classification import ClassificationTask
from tests.doubles import NoiseData
from tests.interop.official import GOLDEN, Arrays, network_case, write_train_state
from tests.interop.test_flax_heads import published_head

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tiny() -> Arrays:
    return network_case("qna_vit_tiny")[1]


@pytest.fixture(scope="module")
def state(tiny, tmp_path_factory) -> Path:
    """Return a train state of the tiny network."""
    return write_train_state(tmp_path_factory.mktemp("official") / "checkpoint_300", tiny)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["attnlab"])


def error_of(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["import-qna", *map(str, arguments)])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert not captured.out
    (line,) = captured.err.splitlines()
    return line.removeprefix("attnlab: error: ")


EXPERIMENT = ROOT / "experiments/qna/qna_vit_tiny.yaml"
DATA = {"batch_size": 4, "num_classes": 1000, "channels": 3, "side": 37, "count": 8}


def loss_of_test(checkpoint: str, *options: str) -> float:
    """Return the loss of ``attnlab test`` with the experiment's file and these options."""
    data = ["--data=tests.doubles.NoiseData", *(f"--data.{k}={v}" for k, v in DATA.items())]
    quiet = ["--run_dir", "run", "--trainer.enable_progress_bar", "false"]
    main(["test", "--config", str(EXPERIMENT), "--ckpt_path", checkpoint, *options, *data, *quiet])
    return json.loads(Path("run/test.json").read_text())["metrics"]["test/loss"]


def expected(network: torch.nn.Module) -> float:
    images, labels = zip(*NoiseData(**DATA).test_dataloader(), strict=True)
    with torch.no_grad():
        return F.cross_entropy(network(torch.cat(images)), torch.cat(labels)).item()


def test_imported_checkpoint_is_tested_with_its_experiment(tiny, state, capsys) -> None:
    main(["import-qna", str(state), "--out", "deep/tiny.ckpt"])
    line = capsys.readouterr().out
    assert line.startswith("deep/tiny.ckpt: 1000 classes; use with ")
    options = line.split()[5:]
    assert options == [
        "--model.backbone=attnlab.models.qna_vit.qna_vit_tiny",
        "--model.backbone.image_size=224",
        "--model.backbone.patch_size=4",
        "--model.backbone.in_channels=3",
    ]
    loss = loss_of_test("deep/tiny.ckpt", *options)
    assert loss == pytest.approx(expected(load_qna_vit("qna_vit_tiny", tiny)), rel=1e-5)


def test_a_head_and_an_average_at_another_resolution(tiny, capsys) -> None:
    params = tiny | published_head(512, 64)
    file = write_train_state(Path("averaged"), params, tree="ema_params")
    choice = ["--params", "ema_params", "--head", "qna+mean", "--image_size", "96x160"]
    main(["import-qna", str(file), "--out", "averaged.ckpt", *choice])
    options = capsys.readouterr().out.split()[5:]
    assert options[1:2] + options[4:] == [
        "--model.backbone.image_size=[96,160]",
        "--model.pool=attnlab.tasks.heads.QnAMeanPool",
        "--model.pool.heads=64",
    ]
    built = load_qna_vit("qna_vit_tiny", params, image_size=(96, 160), head="qna+mean")
    assert built.pool.scale.shape == (3, 5, 128)
    assert loss_of_test("averaged.ckpt", *options) == pytest.approx(expected(built), rel=1e-5)


def test_overwrites_only_if_told_to(state, capsys) -> None:
    Path("kept.ckpt").write_text("precious")
    message = error_of(capsys, state, "--out", "kept.ckpt")
    assert message == "out='kept.ckpt' exists; choose another --out or pass --overwrite"
    assert Path("kept.ckpt").read_text() == "precious"
    main(["import-qna", str(state), "--out", "kept.ckpt", "--overwrite"])
    assert "classifier.head.bias" in torch.load("kept.ckpt")["state_dict"]
    assert [path.name for path in Path().iterdir()] == ["kept.ckpt"]


def test_a_failed_write_leaves_nothing(state, capsys, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left on device" in error_of(capsys, state, "--out", "new.ckpt")
    assert not list(Path().iterdir())


def test_broken_files_are_one_line_that_names_them(state, capsys) -> None:
    content = state.read_bytes()
    Path("cut").write_bytes(content[: len(content) // 2])
    Path("zip").write_bytes(b"PK\x03\x04 as torch saves")
    Path("empty").write_bytes(b"")
    assert "No such file or directory: 'gone'" in error_of(capsys, "gone", "--out", "a.ckpt")
    assert "Is a directory" in error_of(capsys, ".", "--out", "a.ckpt")
    for name in ("cut", "zip", "empty"):
        message = error_of(capsys, name, "--out", "a.ckpt")
        assert message.startswith(f"{name} is truncated or no Flax train state")
    message = error_of(capsys, state, "--params", "ema_params", "--out", "a.ckpt")
    assert "it has no map named ema_params" in message
    assert not Path("a.ckpt").exists()


class Trap:
    """Makes a directory where a pickle of it is loaded."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("trapped",)


def test_nothing_in_the_file_is_executed(capsys) -> None:
    torch.save({"params": Trap()}, "torch.ckpt")
    Path("pickle.ckpt").write_bytes(pickle.dumps(Trap()))
    content = msgpack.ExtType(1, pickle.dumps(Trap()))
    Path("inside.ckpt").write_bytes(msgpack.packb({"params": {"a": content}}))
    for name in ("torch", "pickle", "inside"):
        assert " is " in error_of(capsys, f"{name}.ckpt", "--out", "a.ckpt")
    assert sorted(path.suffix for path in Path().iterdir()) == [".ckpt"] * 3


def test_arrays_that_do_not_fit_are_named(tiny, state, capsys) -> None:
    name = "QnAStage_1/QnA_Block_2/FusedKQnA_0/rpe_bias"
    cut = {path: array for path, array in tiny.items() if path != name}
    message = error_of(capsys, write_train_state(Path("cut"), cut), "--out", "a.ckpt")
    assert message == f"cut as qna_vit_tiny: missing arrays: {name}"
    message = error_of(capsys, state, "--model", "qna_vit_tiny_7x7", "--out", "a.ckpt")
    assert f"{state} as qna_vit_tiny_7x7: QnAStage_" in message
    assert message.endswith("_weights has shape (1, 1, 9, 16), expected (1, 1, 49, 16)")
    other = write_train_state(Path("other"), {"conv/kernel": np.zeros((3, 3), np.float32)})
    assert error_of(capsys, other, "--out", "a.ckpt").startswith("other: missing arrays: StemBlock")
    mini = GOLDEN / "qna_vit_mini.ckpt"
    assert "are those of no published network" in error_of(capsys, mini, "--out", "a.ckpt")
    assert not Path("a.ckpt").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["FILE"],
        ["--out", "a.ckpt"],
        ["FILE", "--out", "a.ckpt", "--model", "qna_vit_huge"],
        ["FILE", "--out", "a.ckpt", "--head", "mean"],
        *(["FILE", "--out", "a.ckpt", "--image_size", size] for size in ("0", "2x3x4", "x", "a")),
        ["FILE", "--out", "a.ckpt", "--colour", "blue"],
    ],
)
def test_wrong_arguments(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["import-qna", *arguments])
    assert stop.value.code == 2
    assert "attnlab import-qna: error: " in capsys.readouterr().err.splitlines()[-1]


def test_names_are_those_of_the_loader() -> None:
    assert tuple(PUBLISHED) == MODELS
    with torch.device("meta"):
        task = ClassificationTask(PUBLISHED["qna_vit_tiny"][0](), 1000)
        names = {f"classifier.{name}" for name in task.classifier.state_dict()}
    assert task.state_dict().keys() == names


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, runpy; sys.argv = ['attnlab', 'import-qna', '--help']\n"
    code += "try: runpy.run_module('attnlab', run_name='__main__')\n"
    code += "finally: print('torch' in sys.modules)"
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert time.monotonic() - start < 5
    assert result.returncode == 0
    assert result.stdout.startswith("usage: attnlab import-qna")
    assert result.stdout.endswith("False\n")
