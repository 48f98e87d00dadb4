"""What TensorBoard shows of a study, by its server's answers and in a browser."""

import json
import math
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
import yaml
from PIL import Image

from attnlab.ablation import board, parse
from attnlab.ablation import plan as planning
from attnlab.ablation.plan import Plan
from attnlab.cli import main
from attnlab.tasks.classification import ClassificationTask

ROOT = Path(__file__).parents[1]
BASE: dict[str, Any] = {
    "model": {
        "class_path": "attnlab.tasks.classification.ClassificationTask",
        "init_args": {
            "backbone": {
                "class_path": "attnlab.backbones.lisa_vit.LisaViT",
                "init_args": {
                    "mixer": {
                        "class_path": "attnlab.operators.lisa.LiSA",
                        "init_args": {"num_rpes": 2, "key_dim": 4, "approximation": "none"},
                    },
                    **{"image_size": 8, "patch_size": 2, "in_channels": 1},
                    **{"width": 12, "depth": 2, "heads": 2},
                },
            },
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
        },
    },
    "data": {"class_path": "tests.doubles.NoiseData"},
    "trainer": {
        "accelerator": "cpu",
        "max_steps": 8,
        "max_epochs": 2,
        "log_every_n_steps": 2,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [{"class_path": "attnlab.callbacks.analysis.Redundancy"}],
    },
}
STUDY = {
    "question": "Which table, which products?",
    "base": "lisa",
    "axes": {
        "form": {"key": "model.backbone.mixer.approximation", "values": ["none", "fft"]},
        "num_rpes": {"key": "model.backbone.mixer.num_rpes", "values": [0, 2]},
    },
    "baseline": {"form": "none", "num_rpes": 2},
    "seeds": [3],
    "metric": "test/top1",
    "extra_metrics": ["diag/cka"],
}
PROFILE = {"about": "noise", "bases": {"lisa": "lisa.yaml"}, "minutes_per_cell": 1}
COLUMNS = ["test/top1", "diag/cka", "model/parameters", "model/gflops"]
COLUMNS += ["perf/images_per_s", "perf/peak_memory_mib"]
STOP = ("--trainer.callbacks+=tests.doubles.Interruption", "--trainer.callbacks.count=6")
STOP += ("--trainer.callbacks.hook=on_train_batch_end",)


def explode(*arguments: object) -> None:
    raise RuntimeError("this attempt fails")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Plan:
    """A study of four trials: two finished, one of them after a restart; one failed; one not begun.

    The restarted one was asked to stop at its sixth step of eight.
    """
    folder = tmp_path_factory.mktemp("study")
    (folder / "lisa.yaml").write_text(yaml.safe_dump(BASE))
    stanzas = {"profiles": {"laptop": PROFILE}, "studies": {"table": STUDY}}
    (folder / "ablations.yaml").write_text(yaml.safe_dump(stanzas))
    ablations = parse.load(folder / "ablations.yaml")
    profile = ablations.profile("laptop")
    plan = planning.make(ablations.study("table"), profile, folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["attnlab"])
        first, second, third, _ = (plan.arguments(trial) for trial in plan.trials)
        main(first)
        with pytest.raises(SystemExit) as stop:
            main((*second, *STOP))
        assert stop.value.code == 75
        main(second)
        patch.setattr(ClassificationTask, "test_step", explode)
        with pytest.raises(RuntimeError, match="this attempt fails"):
            main(third)
    assert len(plan.results()) == 2
    board.write(plan)
    return plan


@pytest.fixture(scope="module")
def server(study) -> Iterator[str]:
    """The address of a TensorBoard on the study's directory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("tensorboard"), "--logdir", study.directory),
            *("--host", "127.0.0.1", "--port", str(port), "--reload_interval", "1"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is None and len(ask(address, "runs")) == 4)
        yield address
    finally:
        process.terminate()
        process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:  # it does not listen yet
            pass
        assert time.monotonic() < deadline, "TensorBoard does not answer"
        time.sleep(0.1)


def ask(address: str, what: str, question: object = None) -> Any:
    request = urllib.request.Request(f"{address}/data/{what}")
    if question is not None:
        request.data = json.dumps(question).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def name_of(plan: Plan, index: int) -> str:
    return str(plan.trials[index].run_dir.relative_to(plan.directory))


def test_each_finished_cell_is_one_row_with_all_metrics(study, server):
    statuses = [f"STATUS_{each}" for each in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    question = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": statuses, "colParams": []}
    groups = ask(server, "plugin/hparams/session_groups", question)["sessionGroups"]
    assert [group["name"] for group in groups] == sorted(name_of(study, index) for index in (0, 1))
    records = {name_of(study, index): study.results()[index].record for index in (0, 1)}
    for group in groups:
        (session,) = group["sessions"]
        assert session["status"] == "STATUS_SUCCESS"
        record = records[group["name"]]
        assert group["hparams"] == {**record["hparams"], "seed": 3.0}
        values = {each["name"]["tag"]: each["value"] for each in group["metricValues"]}
        assert list(values) == COLUMNS
        for tag, value in values.items():
            assert math.isclose(value, record["metrics"][tag], rel_tol=1e-6), tag


def test_columns_are_those_of_the_study(server):
    found = ask(server, "plugin/hparams/experiment", {"experimentName": ""})
    columns = {info["name"]: info.get("domainDiscrete") for info in found["hparamInfos"]}
    assert columns == {"num_rpes": [0.0, 2.0], "form": ["none", "fft"], "seed": [3.0]}
    assert [info["name"]["tag"] for info in found["metricInfos"]] == COLUMNS
    assert (found["name"], found["description"]) == ("table", "Which table, which products?")


def test_curves_pictures_and_the_question_are_there(study, server):
    names = [name_of(study, index) for index in (0, 1, 2)]
    assert sorted(ask(server, "runs")) == sorted(["about", *names])
    scalars = ask(server, "plugin/scalars/tags")
    for index in (0, 1):
        assert {"train/loss", "val/loss", "val/top1", *COLUMNS} <= scalars[names[index]].keys()
        where = urllib.parse.urlencode({"run": names[index], "tag": "val/top1"})
        curve = ask(server, f"plugin/scalars/scalars?{where}")
        assert [step for _, step, _ in curve] == [3, 7], names[index]  # once, restarted or not
    assert "val/top1" in scalars[names[2]]
    images = ask(server, "plugin/images/tags")
    tables = {f"diag/blocks.{k}/{kind}" for k in (0, 1) for kind in ("composing", "encoding")}
    attention = {"diag/cka_layers", "diag/kernel_similarity", "diag/blocks.0/kernel"}
    assert all(attention <= images[name].keys() for name in names[:2])
    assert tables & images[names[0]].keys() == set()  # no embeddings, no tables
    assert tables <= images[names[1]].keys()
    (text,) = ask(server, "plugin/text/text?run=about&tag=question")
    assert "Which table, which products?" in text["text"]
    assert "form=none, num_rpes=2" in text["text"]
    (category,) = ask(server, "plugin/custom_scalars/layout")["category"]
    assert [chart["title"] for chart in category["chart"]] == ["val/top1", "val/loss", "train/loss"]


@pytest.mark.skipif(browser.find() is None, reason="no Chromium on this machine")
def test_a_browser_shows_every_finished_cell(study, server, tmp_path):
    with browser.page(tmp_path / "profile") as page:
        page.open(f"{server}/#hparams")
        page.wait_for("Number of matching session groups: 2")
        shown = page.wait_for(name_of(study, 1))
        table = shown[shown.index("Trial ID Show Metrics") :]
        for index, number in ((0, "0.0000"), (1, "2.0000")):
            assert f"{name_of(study, index)} none {number} 3.0000 0." in table
        assert name_of(study, 2) not in shown
        page.picture(tmp_path / "hparams.png")
        page.open(f"{server}/#text")
        page.wait_for("Which table, which products?")
        page.open(f"{server}/?tagFilter=val/#timeseries")
        page.wait_for("Tags matching filter 3 cards")
    with Image.open(tmp_path / "hparams.png") as picture:
        assert picture.width == 1280
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50  # not blank
