import json
import zipfile

import numpy as np
import pytest

from attnlab.data.video.annotations import (
    annotation_files,
    match_videos,
    read_annotations,
    require_unpacked,
)

# Sorted with brackets the first comes first; without, the second does.
TEMPLATES = [
    "Holding [something]",
    "Holding [part] behind [something]",
    "Showing [number of] [something], [something soft] left",
]
PLAIN = ["Holding something", "Holding part behind something"]
PLAIN.append("Showing number of something, something soft left")
PREFIX = "something-something-v2-"


def _record(name, template=0):
    return {"id": str(name), "label": "any", "template": TEMPLATES[template], "placeholders": []}


def _write(root, pattern=PREFIX + "{}.json", **changes):
    contents = {
        "labels": {PLAIN[1]: "0", PLAIN[2]: "1", PLAIN[0]: "2"},
        "train": [_record(7, 0), _record(12, 2), _record(3, 1), _record(5, 0)],
        "validation": [_record(4, 1)],
        "test": [{"id": "9"}],
        **changes,
    }
    for part, content in contents.items():
        path = root / pattern.format(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize("pattern", [PREFIX + "{}.json", "labels/{}.json", "{}.json"])
def test_classes_come_from_labels_json_under_either_naming(tmp_path, pattern):
    _write(tmp_path, pattern)
    annotations = read_annotations(tmp_path, 3)
    train, validation = annotations.parts["train"], annotations.parts["validation"]
    assert train.ids == ["7", "12", "3", "5"]
    assert train.labels.tolist() == [2, 1, 0, 2]
    assert train.labels.dtype == np.int64
    assert validation.ids == ["4"]
    assert validation.labels.tolist() == [0]
    assert annotations.test == ["9"]
    assert annotations.classes == [PLAIN[1], PLAIN[2], PLAIN[0]]
    # No sorting of the templates, with or without brackets, gives these classes.
    for order in (sorted(TEMPLATES), sorted(PLAIN)):
        plain = [template.replace("[", "").replace("]", "") for template in order]
        assert plain != annotations.classes


def test_test_annotations_may_be_missing(tmp_path):
    _write(tmp_path)
    (tmp_path / f"{PREFIX}test.json").unlink()
    assert read_annotations(tmp_path, 3).test == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {PLAIN[0]: "0"}}, "labels.json has 1 classes, but num_classes=3$"),
        (
            {"labels": dict(zip(PLAIN, ("0", "1", "3"), strict=True))},
            r"class 3 of 'Showing .* left' is not in \[0, 3\)",
        ),
        (
            {"labels": dict(zip(PLAIN, ("0", "-1", "2"), strict=True))},
            r"class -1 of 'Holding part .*' is not in \[0, 3\)",
        ),
        ({"labels": dict(zip(PLAIN, "112", strict=True))}, "class 1 has several templates"),
        ({"labels": dict(zip(PLAIN, "01x", strict=True))}, "labels.json: invalid literal .* 'x'"),
        ({"labels": []}, "labels.json must map templates to classes"),
        ({"train": '[{"id": "7", "temp'}, "train.json is no JSON, perhaps cut off: "),
        ({"train": {}}, "train.json must be a list of records"),
        ({"train": []}, "train.json has no videos"),
        ({"train": [_record(1), {"id": "2"}]}, "record 1 lacks id or template: {'id': '2'}"),
        (
            {"validation": [_record(4), {"id": "2", "template": "Eating [something]"}]},
            r"validation.json: 1 template \(Eating something\) are not in .*labels.json",
        ),
        (
            {"train": [_record(number) for number in [*range(20, 33), *range(20, 33)]]},
            r"train.json: 13 ids \(20, 21, .*, 29, \.\.\.\) occur repeatedly",
        ),
        (
            {"validation": [_record(12), _record(7), _record(8)]},
            r"2 ids \(7, 12\) are both in .*train.json and in .*validation.json",
        ),
        ({"test": [{"id": "4"}]}, r"1 id \(4\) are both in .*validation.json and in .*test.json"),
    ],
)
def test_damaged_and_contradictory_annotations(tmp_path, changes, message):
    _write(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        read_annotations(tmp_path, 3)
    assert "\n" not in str(error.value)


def test_missing_annotations(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist; accepted: .*labels,train"):
        annotation_files(tmp_path / "nowhere")
    (tmp_path / "20bn-something-something-download-package-labels.zip").touch()
    with pytest.raises(FileNotFoundError, match=r"labels.zip is not unpacked: unzip .* -d "):
        annotation_files(tmp_path)
    _write(tmp_path)
    (tmp_path / f"{PREFIX}validation.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels.json is there, .*validation.json is not"):
        annotation_files(tmp_path)


def _annotations(tmp_path, count):
    _write(tmp_path, train=[_record(number) for number in range(1, count)])
    path = tmp_path / f"{PREFIX}validation.json"
    path.write_text(json.dumps([_record(count)]))
    (tmp_path / f"{PREFIX}test.json").write_text(json.dumps([{"id": str(count + 1)}]))
    return read_annotations(tmp_path, 3)


def test_a_thousandth_may_be_without_a_video_or_an_annotation(tmp_path):
    annotations = _annotations(tmp_path, 2000)
    ids = {str(number) for number in range(1, 2002)}  # with the test video
    assert match_videos(annotations, ids, tmp_path) == (set(), None)
    missing, note = match_videos(annotations, (ids - {"30", "4"}) | {"5000"}, tmp_path)
    assert missing == {"4", "30"}
    assert note == (
        f"{tmp_path}: of 2,000, 2 annotations (4, 30) are without a video; "
        "of 2,000, 1 video (5000) are without an annotation"
    )


def test_more_is_an_error(tmp_path):
    annotations = _annotations(tmp_path, 2000)
    ids = {str(number) for number in range(1, 2002)}
    some = {str(number) for number in range(100, 1300, 100)}
    first_ten = r"12 annotations \(100, 200, .*, 1000, \.\.\.\) are without a video"
    with pytest.raises(FileNotFoundError, match=first_ten):
        match_videos(annotations, ids - some, tmp_path)
    spare = {"7001", "7002", "7003"}
    with pytest.raises(FileNotFoundError, match=r"of 2,004, 3 videos .* without an annotation$"):
        match_videos(annotations, ids | spare, tmp_path)
    hint = r"\(there is no annotation file of the test videos\)"
    with pytest.raises(FileNotFoundError, match=hint):
        match_videos(annotations._replace(test=[]), ids | spare, tmp_path)


def test_archives_that_are_not_unpacked(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"accepted: 20bn-something-something-v2/<id>\."):
        require_unpacked(tmp_path)
    parts = [tmp_path / f"20bn-something-something-v2-0{number}" for number in range(2)]
    for part in parts:
        part.write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(FileNotFoundError, match=r"2 archive parts .* not unpacked: ") as error:
        require_unpacked(tmp_path)
    command = f"cd {tmp_path} && cat {parts[0].name} {parts[1].name} | tar xz"
    assert str(error.value).endswith(command)
    with zipfile.ZipFile(parts[0], "w") as archive:
        archive.writestr("any", "")
    with pytest.raises(FileNotFoundError, match=r"do unzip \$part; done, then .* \| tar xz$"):
        require_unpacked(tmp_path)
    parts[0].write_text("<html>")
    with pytest.raises(FileNotFoundError, match="'3c 68', neither a zip nor a gzipped tar"):
        require_unpacked(tmp_path)
