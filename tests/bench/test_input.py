"""Ratios and goals of hand-made samples, files by what is in them, processes by tiny contests."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from attnlab.ablation.errors import UserError
from attnlab.bench import input as input_command
from attnlab.bench import input_checks, input_child, input_files, peers
from attnlab.bench.cli import main
from attnlab.bench.input import growth
from attnlab.bench.input_contest import Child, Entry, Result, race
from attnlab.bench.input_races import AUGMENTED, CIFAR, CLIPS, PLAIN, RACES, STAGES, Goal, goals
from attnlab.bench.input_tables import csv_lines, goal_table, page, tables

SETTINGS = {"core": None, "cache": "unused"}


def results(race: str, *samples: list[float]) -> list[Result]:
    return [
        Result(entry, tuple(own), tuple(samples[0]))
        for entry, own in zip(RACES[race], samples, strict=True)
    ]


PLAIN_RESULTS = results(PLAIN, [8.0, 9.0], [5.0, 6.0], [7.0, 7.5], [5.5, 5.0], [2.5, 2.0], [3, 4])
CLIP_RESULTS = results(CLIPS, [20.0, 25.0], [22.0, 22.0], [5.0, 4.0])


def test_ratios_are_of_the_least_times_and_within_rounds() -> None:
    ours = PLAIN_RESULTS[4]
    assert ours.best == 2.0
    assert ours.ratio == 0.25
    assert ours.in_rounds.median == pytest.approx((2.5 / 8 + 2 / 9) / 2)


def test_goals_compare_the_pipelines_that_were_asked_about() -> None:
    found = goals({PLAIN: PLAIN_RESULTS, CLIPS: CLIP_RESULTS})
    assert [(goal.name, goal.value, goal.reached) for goal in found] == [
        ("G1", 4.0, True),  # torchvision's floats over our bytes
        ("G1", 3.5, True),  # timm's
        ("G4", 1.1, False),  # at most 1.05
        ("G4", 5.5, True),
    ]
    augmented = results(AUGMENTED, [9.0], [1.0], [8.8], [1.0], [4.0], [5.0])
    assert [goal.value for goal in goals({AUGMENTED: augmented})] == [2.25, 2.2]
    assert [goal.value for goal in goals({CIFAR: results(CIFAR, [0.3], [0.1])})] == [
        pytest.approx(3.0)
    ]


def test_without_peers_no_goal_is_judged_but_our_own() -> None:
    ours = [result for result in CLIP_RESULTS if result.entry.ours]
    assert [goal.about for goal in goals({CLIPS: ours})] == ["our webm reader over JPEG frames"]


def test_tables_show_milliseconds_and_how_many_times_faster() -> None:
    shown = tables({PLAIN: PLAIN_RESULTS, CLIPS: CLIP_RESULTS})
    assert "| images, CPU ms each | no RandAugment |" in shown
    assert "| attnlab, to bytes: the device normalises | 2 (4.00x) |" in shown
    assert "| attnlab, PyAV, from webm | 22 (0.91x) |" in shown
    verdicts = goal_table([Goal("G5", "start", 6.0, 5, least=False, unit=" s")])
    assert "| G5 | start | ≤ 5 s | 6 s | **missed** |" in verdicts
    written = page({"Hardware": "an abacus"}, {PLAIN: PLAIN_RESULTS}, [])
    assert "- **Hardware**: an abacus" in written
    assert "## Goals" not in written


def test_steps_stand_side_by_side() -> None:
    found = results(STAGES, *([float(time)] for time in range(1, 11)))
    shown = tables({STAGES: found})
    assert "| decode: Pillow, libjpeg-turbo | 1 | 2 |" in shown
    assert "| collate 64: floats, bytes | 9 | 10 |" in shown
    alone = tables({STAGES: [result for result in found if result.entry.ours]})
    assert "| collate 64: floats, bytes |  | 10 |" in alone


def test_csv_has_every_contestant_and_goal() -> None:
    lines = csv_lines({CLIPS: CLIP_RESULTS}, goals({CLIPS: CLIP_RESULTS}))
    assert len(lines) == 3 + 2
    assert lines[2]["cpu_ms_min"] == 4.0
    assert lines[2]["unit_over_this"] == 5.0
    assert lines[3]["bound"] == "<= 1.05"
    assert all(line.keys() == lines[0].keys() for line in lines)
    only_goals = csv_lines({}, [Goal("G5", "start", 2.0, 5, least=False)])
    assert only_goals[0]["measured"] == 2.0


def test_growth_is_told_from_jitter() -> None:
    jitter = [100, 104, 101, 104, 100, 104, 104, 100, 104, 101, 104, 100]
    assert growth([50, *jitter]).value == pytest.approx(0)
    assert growth([50, *jitter]).reached
    leaking = [50, *(size + epoch for epoch, size in enumerate(jitter))]
    assert growth(leaking).value == pytest.approx(100 * 11 / np.mean(jitter))
    assert not growth(leaking).reached
    assert growth([50, 100, 101]).value == pytest.approx(1.0)


class Fake:
    """Stands for a process; an item costs as many milliseconds as it has been asked."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def ask(self, name: str) -> dict[str, float]:
        self.log.append(name)
        return {"cpu_s": 0.004 * len(self.log), "value": 4}


def test_every_round_begins_with_another_and_the_first_is_not_counted() -> None:
    log: list[str] = []
    entries = [Entry(name, "of one label", ours=name != "b") for name in "abc"]
    found = race(entries, Fake(log), Fake(log), rounds=2)  # type: ignore[arg-type]
    assert "".join(log) == "cab" + "abc" + "bca"
    samples = [result.samples for result in found]
    assert samples == [pytest.approx(each) for each in [(4, 9), (5, 7), (6, 8)]]
    log.clear()
    alone = race(entries, Fake(log), None, rounds=1)  # type: ignore[arg-type]
    assert "".join(log) == "ca" + "ac"
    assert [result.entry.name for result in alone] == ["a", "c"]


def test_a_process_builds_once_measures_and_reports_failures(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "def contestants(settings):\n"
        "    built = []\n"
        "    def build():\n"
        "        built.append(1)\n"
        "        print('a library talks')\n"
        "        time.sleep(0.2)\n"
        "        return lambda: sum(range(2_000_000)) and [len(built), settings['cache']]\n"
        "    def broken():\n"
        "        raise ValueError('of two\\nlines')\n"
        "    return {'sum': build, 'broken': lambda: broken}\n"
    )
    with Child(sys.executable, script, SETTINGS) as child:
        assert child.names == ["sum", "broken"]
        for _ in range(2):
            answer = child.ask("sum")
            assert answer["value"] == [1, "unused"]
            assert 0 < answer["cpu_s"] < 0.2  # building is not part of it
        with pytest.raises(UserError, match=r"^broken: ValueError: of two lines$"):
            child.ask("broken")
        assert child.ask("sum")["value"] == [1, "unused"]


def test_what_the_peers_lack_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["input", "--only", "cifar", "--files", str(tmp_path), "--out", str(tmp_path)]
    python = tmp_path / "python"  # this environment has none of the peers
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert main([*arguments, "--peers-python", str(python)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"attnlab.bench: error: {python} lacks what the benchmark compares")
    assert "No module named" in error
    assert "python -m attnlab.bench peers --input" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not run: No such file"), ("#!/bin/sh\necho oops >&2; exit 3\n", "with 3: oops")],
)
def test_an_interpreter_that_does_not_work_is_named(
    content: str | None, message: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    if content is not None:
        python.write_text(content)
        python.chmod(0o755)
    with pytest.raises(UserError, match=message):
        Child(str(python), tmp_path / "script.py", SETTINGS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["--tree-images", "0"], "--tree-images must be at least 1, not 0"),
        (["--memory", "--epochs", "2"], "--epochs must be at least 3, not 2"),
        (["--core", "9999"], "--core must be one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["input", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


class Inline:
    """Stands for a process: serves a script's contestants here, where all has been imported."""

    def __init__(self, python: str, script: Path, settings: dict[str, Any]) -> None:
        self.builds = input_child.load(str(script)).contestants(json.loads(json.dumps(settings)))

    def ask(self, name: str) -> dict[str, Any]:
        return json.loads(json.dumps(input_child.measure(self.builds[name]())))

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_our_side_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(input_command, "Child", Inline)
    monkeypatch.setattr(input_command, "TREE_CLASSES", 3)
    monkeypatch.setenv("ATTNLAB_CACHE", str(tmp_path / "cache"))
    arguments = ["input", "--images", "20", "--batch", "5", "--batches", "2", "--clips", "2"]
    arguments += ["--tree-images", "60", "--rounds", "1"]
    arguments += ["--only", "images", "stages", "cifar", "clips", "start"]
    assert main([*arguments, "--files", str(tmp_path / "files"), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "attnlab, to bytes" in shown
    assert "torchvision, to bytes" not in shown
    assert "| G5 | start on 177 indexed images" in shown  # one of each class is held out
    assert "| G5 | different streams from 0, 1, 2 and 4 workers | ≤ 1 | 1 | reached |" in shown
    lines = (tmp_path / "input.csv").read_text().splitlines()
    rows = [line for line in lines if not line.startswith("#")]
    assert len(rows) == 1 + 2 + 2 + 5 + 1 + 2 + 4  # heading, races, goals of ours alone
    assert (tmp_path / "input.md").read_text().startswith("# Input pipeline")


def test_memory_is_that_of_the_process_and_its_pages(trimmed_heap: None) -> None:
    before = input_checks.proportional_bytes(os.getpid())
    held = np.ones(50 * 2**20, np.uint8)
    grown = input_checks.proportional_bytes(os.getpid()) - before
    assert grown == pytest.approx(held.nbytes, rel=0.1)


def test_a_stream_is_told_by_every_tensor_in_it() -> None:
    def batches(last: int) -> list[Any]:
        return [((torch.zeros(2, 3, dtype=torch.uint8), torch.tensor([1, last])), [])]

    assert input_checks.digest(batches(5)) == input_checks.digest(batches(5))
    assert input_checks.digest(batches(5)) != input_checks.digest(batches(6))


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_images_are_like_imagenets(tmp_path: Path) -> None:
    total = input_files.write_images(tmp_path, count=15, copies=3, classes=5)
    train = sorted((tmp_path / "train").glob("*/*.JPEG"))
    assert len(train) == 45
    assert len({path.parent for path in train}) == 5
    assert len({path.stat().st_ino for path in train}) == 15
    assert len({path.name for path in tmp_path.glob("*/*/*")}) == 45 + 10
    assert 70_000 < total / 15 < 120_000
    sizes = [size_of(path) for path in train]
    assert 470 < np.mean([max(size) for size in sizes]) < 530
    assert 340 < np.mean([min(size) for size in sizes]) < 411
    assert len({path.read_bytes() for path in train}) == 15
    again = tmp_path / "again"
    input_files.write_images(again, count=15, copies=3, classes=5)
    assert [path.read_bytes() for path in sorted((again / "train").glob("*/*.JPEG"))] == [
        path.read_bytes() for path in train
    ]


def test_clips_are_like_something_somethings(tmp_path: Path) -> None:
    (path,) = input_files.write_clips(tmp_path, 1)
    with av.open(path) as container:
        frames = list(container.decode(video=0))
        assert container.streams.video[0].codec_context.name in ("vp9", "libvpx-vp9")
        assert container.streams.video[0].average_rate == 12
    assert len(frames) == 43
    assert [frame.key_frame for frame in frames].count(True) == 1
    assert (frames[0].height, frames[0].width) == (240, 427)
    assert 50_000 < path.stat().st_size < 150_000


def test_a_tree_has_names_for_every_class(tmp_path: Path) -> None:
    input_files.write_tree(tmp_path, classes=7, images=3)
    train, val = (sorted((tmp_path / split).glob("*/*.JPEG")) for split in ("train", "val"))
    assert (len(train), len(val)) == (21, 7)
    assert len({path.parent.name for path in train + val}) == 7
    assert len({path.name for path in train + val}) == 28


def test_the_vision_peers_come_without_their_own_torch(tmp_path: Path) -> None:
    steps: list[list[str]] = []

    def call(step: list[str]) -> int:
        steps.append(step)
        tmp_path.joinpath("env").mkdir(exist_ok=True)
        return 0

    peers.make_input(tmp_path / "env", "torch==9.9", call)  # type: ignore[arg-type]
    made, first, second = steps
    assert made[1:] == ["-m", "venv", str(tmp_path / "env")]
    assert {"torch==9.9", "Pillow<13"} <= set(first)
    assert second[-4:] == ["--no-deps", *peers.VISION]
    assert json.dumps(second).count("torch==9.9") == 0
