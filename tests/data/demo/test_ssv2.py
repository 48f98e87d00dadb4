import csv
import json

import numpy as np
import pytest

from attnlab.data.demo import ssv2
from attnlab.data.motion import TEMPLATES
from attnlab.data.video.readers import PyAVReader

SIZES = {"train": 9, "val": 3, "test": 2, "frames": 5}
PARTS = ("labels", "train", "validation", "test")
PLAIN = [template.replace("[", "").replace("]", "") for template in TEMPLATES]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("ssv2")
    ssv2.write(root, seed=3, height=50, width=67, **SIZES)
    return root


def test_genuine_layout(tree):
    parts = {part: json.loads((tree / f"labels/{part}.json").read_text()) for part in PARTS}
    labels = parts.pop("labels")
    assert labels == {template: str(number) for number, template in enumerate(PLAIN)}
    assert list(labels) != sorted(labels, key=lambda template: int(labels[template]))
    ids = [record["id"] for part in parts.values() for record in part]
    assert sorted(ids, key=int) == [str(number) for number in range(1, 15)]
    assert [len(part) for part in parts.values()] == [9, 3, 2]
    for record in parts["train"] + parts["validation"]:
        assert record["template"] in TEMPLATES
        assert len(record["placeholders"]) == record["template"].count("[")
        assert "[" not in record["label"]
    assert all(record.keys() == {"id"} for record in parts["test"])
    with (tree / "labels/test-answers.csv").open() as file:
        answers = dict(csv.reader(file, delimiter=";"))
    assert set(answers) == {record["id"] for record in parts["test"]}
    assert set(answers.values()) <= set(PLAIN)


def test_videos_are_vp9_of_the_size_asked_for(tree):
    found = PyAVReader().find(tree)
    assert set(found) == {str(number) for number in range(1, 15)}
    for path in found.values():
        frames = PyAVReader().clip(path, range)
        assert frames.shape == (5, 50, 67, 3)
        assert frames[0].std() > 10
        # The rows of the square are continued to both sides: 8 columns to the left, 9 to the right.
        assert abs(frames[:, :, 0].astype(int) - frames[:, :, 7]).max() < 40


def test_a_clip_and_its_label_belong_together(tmp_path):
    # Towards the camera means that the digit, brighter than its ground, grows.
    ssv2.write(tmp_path, train=32, val=1, test=1, frames=6)
    reader = PyAVReader()
    found = reader.find(tmp_path)
    signs = {"towards": [], "away": []}
    for record in json.loads((tmp_path / "labels/train.json").read_text()):
        for word, ends in signs.items():
            if word in record["template"]:
                light = reader.read(found[record["id"]], [0, 5]).astype(float).mean((1, 2, 3))
                ends.append(light[1] - light[0])
    assert len(signs["towards"]) == len(signs["away"]) == 4
    assert np.mean(signs["towards"]) > 2
    assert np.mean(signs["away"]) < -2


def test_old_naming(tmp_path):
    ssv2.write(tmp_path, train=2, val=1, test=1, frames=2, naming="old")
    assert {path.name for path in tmp_path.iterdir()} == {
        "20bn-something-something-v2",
        *(f"something-something-v2-{part}.json" for part in PARTS),
    }


def test_a_seed_gives_the_same_bytes(tmp_path):
    sizes = {"train": 2, "val": 1, "test": 1, "frames": 3}
    contents = []
    for number, seed in enumerate((5, 5, 6)):
        ssv2.write(tmp_path / str(number), seed=seed, **sizes)
        files = sorted((tmp_path / str(number)).rglob("*.*"))
        contents.append({path.name: path.read_bytes() for path in files if path.is_file()})
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"naming": "newest"}, "naming='newest' must be one of new, old"),
        ({"val": 0}, "val=0 must be at least 1"),
        ({"height": 8}, "height=8 must be at least 16"),
        ({"height": 64, "width": 48}, "width=48 at least that"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ssv2.write(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
