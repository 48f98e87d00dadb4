import json
import shutil

import lightning as L
import numpy as np
import pytest
import torch
from burned_clips import numbers, write_webm

from attnlab.data.demo import ssv2
from attnlab.data.held_out import hold_out
from attnlab.data.keys import SampleKey
from attnlab.data.something_v2 import MEAN, STD, SomethingV2
from attnlab.data.streamed import UnreadableSampleError
from attnlab.data.transforms.evaluate import EvalTransform
from attnlab.data.transforms.train import TrainTransform
from attnlab.data.video.clips import mirrored_classes
from attnlab.data.video.convert import convert
from attnlab.data.video.frames import FrameFolderReader, FrameTarReader
from attnlab.data.video.readers import PyAVReader
from attnlab.data.video.sampling import sample_pyslowfast

CLASSES, FRAMES, SIZE, VIDEO_FRAMES = 8, 5, 24, 11


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("ssv2")
    ssv2.write(root, train=26, val=7, test=2, frames=VIDEO_FRAMES, height=48, width=72)
    return root


@pytest.fixture(scope="module")
def burned(tmp_path_factory, demo):
    """The demo tree's annotations over videos that show their frames' numbers."""
    root = tmp_path_factory.mktemp("burned")
    shutil.copytree(demo / "labels", root / "labels")
    one = write_webm(root / "one.webm", 23)
    (root / "videos").mkdir()
    for name in PyAVReader().find(demo):
        shutil.copyfile(one, root / "videos" / f"{name}.webm")
    return root


def whole(frames, rng):
    """Keep the whole picture, shrunk to a quarter."""
    return torch.from_numpy(np.ascontiguousarray(frames[:, ::2, ::2].transpose(0, 3, 1, 2)))


whole.size = SIZE


def module(root, **options):
    options = {
        "batch_size": 4,
        "num_classes": CLASSES,
        "frames": FRAMES,
        "train_transform": TrainTransform(SIZE, flip=0),
        "num_workers": 0,
        **options,
    }
    return SomethingV2(root, **options)


def stages(data):
    data.setup("fit")
    data.setup("test")
    return data


def annotated(root, part):
    records = json.loads((root / f"labels/{part}.json").read_text())
    labels = json.loads((root / "labels/labels.json").read_text())
    plain = [record["template"].replace("[", "").replace("]", "") for record in records]
    return [record["id"] for record in records], [int(labels[template]) for template in plain]


def test_shape_and_classes_are_known_before_the_disk_is_read():
    data = SomethingV2("nowhere", frames=7, train_transform=TrainTransform(33, flip=0))
    assert data.num_classes == 174
    assert data.input_shape == (7, 3, 33, 33)
    assert SomethingV2("nowhere").input_shape == (16, 3, 224, 224)


def test_splits_and_labels(demo):
    data = stages(module(demo, val_size=6))
    ids, labels = annotated(demo, "train")
    rest, held_out = hold_out(np.array(labels), 6, 0)
    official = annotated(demo, "validation")
    expected = {
        "train": ([ids[index] for index in rest], [labels[index] for index in rest]),
        "val": ([ids[index] for index in held_out], [labels[index] for index in held_out]),
        "test": official,
    }
    for split, dataset in data.datasets.items():
        names = [dataset.source.name(index) for index in range(len(dataset))]
        folder = "20bn-something-something-v2"
        assert names == [f"{folder}/{name}.webm" for name in expected[split][0]]
        assert dataset.source.labels.tolist() == expected[split][1]
    data = stages(module(demo, select_on="official"))
    sizes = {split: len(dataset) for split, dataset in data.datasets.items()}
    assert sizes == {"train": 26, "val": 7, "test": 7}
    assert data.datasets["val"].source.labels.tolist() == official[1]
    assert len(module(demo).open_split("val")) == 1  # a twentieth of 26


def test_a_changed_number_in_labels_json_changes_the_labels(demo, tmp_path):
    shutil.copytree(demo, tmp_path / "new")
    path = tmp_path / "new/labels/labels.json"
    labels = json.loads(path.read_text())
    path.write_text(json.dumps({key: str(7 - int(label)) for key, label in labels.items()}))
    before, after = (module(root).open_split("test") for root in (demo, tmp_path / "new"))
    assert (after.source.labels == 7 - before.source.labels).all()


def test_old_names_of_the_annotations(demo, tmp_path):
    (tmp_path / "20bn-something-something-v2").symlink_to(demo / "20bn-something-something-v2")
    for part in ("labels", "train", "validation", "test"):
        shutil.copyfile(
            demo / f"labels/{part}.json", tmp_path / f"something-something-v2-{part}.json"
        )
    new, old = (next(iter(stages(module(root)).test_dataloader())) for root in (demo, tmp_path))
    assert torch.equal(new[0][0], old[0][0])
    assert torch.equal(new[0][1], old[0][1])


def test_training_clips_are_the_frames_drawn(burned):
    data = stages(module(burned, train_transform=whole))
    seen = set()
    for (clips, _, _), failures in data.train_dataloader():
        assert not failures
        assert clips.dtype == torch.uint8
        for clip in clips.movedim(2, -1).numpy():
            shown = numbers(clip)
            # Segments of 4.4 of 23 frames; their edges 0 4 9 13 18 22 belong to both.
            low, high = [0, 4, 9, 13, 18], [4, 9, 13, 18, 22]
            assert all(a <= b <= c for a, b, c in zip(low, shown, high, strict=True))
            seen.add(tuple(shown))
    assert len(seen) > 15


@pytest.mark.parametrize(("sampling", "expected"), [("tsm", [2, 6, 11, 16, 20]), ("dense", None)])
def test_other_samplings(burned, sampling, expected):
    data = module(burned, sampling=sampling, select_on="official")
    (pixels, _, _), _ = next(iter(stages(data).val_dataloader()))
    expected = expected or [0, 12, 24 % 23, 36 % 23, 48 % 23]
    assert pixels.shape == (4, FRAMES, 3, SIZE, SIZE)
    clip = PyAVReader().read(str(next((burned / "videos").iterdir())), expected)
    assert torch.equal(pixels[0], EvalTransform(SIZE)(clip, np.random.default_rng()))


def test_views_are_crops_by_clips(demo):
    data = stages(module(demo, test_views=(2, 3)))
    (pixels, labels, _), _ = next(iter(data.test_dataloader()))
    assert pixels.shape == (4, 6, FRAMES, 3, SIZE, SIZE)
    ids, expected = annotated(demo, "validation")
    assert labels.tolist() == expected[:4]
    path = PyAVReader().find(demo)[ids[2]]
    for view in range(6):
        crop, clip = divmod(view, 2)
        frames = PyAVReader().read(path, sample_pyslowfast(VIDEO_FRAMES, FRAMES, None, clip, 2))
        crops = EvalTransform(SIZE, 1.0, 3)(frames, np.random.default_rng())
        assert torch.equal(pixels[2, view], crops.unflatten(0, (3, FRAMES))[crop])
    assert not torch.equal(pixels[2, 0], pixels[2, 1])
    assert not torch.equal(pixels[2, 0], pixels[2, 2])
    (pixels, _, _), _ = next(iter(data.val_dataloader()))
    assert pixels.shape == (1, FRAMES, 3, SIZE, SIZE)
    normalised, _ = data.on_after_batch_transfer((pixels, None, None), 0)
    expected = pixels[0, 1, 2].float().div(255).sub(MEAN[2]).div(STD[2])
    torch.testing.assert_close(normalised[0, 1, 2], expected)


@pytest.fixture(scope="module")
def stream(demo):
    """Return the batches of a module with default options."""

    def read(**options):
        L.seed_everything(11, verbose=False)
        data = stages(module(demo, test_views=(1, 2), **options))
        loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
        loaders[0].sampler.set_epoch(3)
        batches = [batch for loader in loaders for batch, failures in loader]
        return [tensor for batch in batches for tensor in batch]

    return read


def test_the_stream_is_the_same_for_any_number_of_workers(stream):
    alone = stream(repeats=2)
    for workers in (1, 2, 4):
        for one, other in zip(alone, stream(repeats=2, num_workers=workers), strict=True):
            assert torch.equal(one, other)


def test_repetitions_show_the_same_frames_cropped_anew(burned, monkeypatch):
    reads = []
    clip = PyAVReader.clip
    monkeypatch.setattr(
        PyAVReader, "clip", lambda self, *args: reads.append(args) or clip(self, *args)
    )
    data = stages(module(burned, train_transform=whole, repeats=2))
    shown = [
        numbers(c.movedim(1, -1).numpy()) for (p, _, _), _ in data.train_dataloader() for c in p
    ]
    assert shown[::2] == shown[1::2]
    assert len({tuple(each) for each in shown}) > 5
    assert len(reads) * 2 == len(shown)
    dataset = module(burned, repeats=2).open_split("train")
    first, second = (dataset[SampleKey(0, 3, repeat)] for repeat in range(2))
    assert first[1] == second[1]
    assert first[2] != second[2]
    assert not torch.equal(first[0], second[0])
    # Alone the second repetition is what it is after the first, and the next epoch another.
    alone = module(burned, repeats=2).open_split("train")
    assert torch.equal(alone[SampleKey(0, 3, 1)][0], second[0])
    assert not torch.equal(alone[SampleKey(1, 3, 1)][0], second[0])


def test_mirroring_changes_the_label_of_directions_alone(demo):
    plain, on, swapped = (
        module(demo, flip=flip).open_split("train") for flip in ("off", "on", "swap_labels")
    )
    partner = {0: 1, 1: 0}
    mirrored = 0
    for index in range(len(plain)):
        key = SampleKey(0, index, 0)
        clip, label, _ = plain[key]
        for dataset in (on, swapped):
            other, named, _ = dataset[key]
            if torch.equal(other, clip):
                assert named == label
            else:
                mirrored += 1
                assert torch.equal(other, clip.flip(-1))
                assert named == (partner.get(label, label) if dataset is swapped else label)
    assert 10 < mirrored < 40


def test_mirrored_classes_are_those_that_name_a_side():
    classes = [
        "Turning the camera right while filming something",
        "Leaving something bright",
        "Pulling something from left to right",
        "Turning the camera left while filming something",
        "Pulling something from right to left",
    ]
    assert mirrored_classes(classes).tolist() == [3, 1, 4, 0, 2]
    with pytest.raises(ValueError, match="no class is the mirror image of 'Turning the camera l"):
        mirrored_classes(classes[2:])


def test_evaluation_is_never_mirrored(demo):
    one, other = (module(demo, flip=flip).open_split("test") for flip in ("off", "on"))
    for index in range(len(one)):
        key = SampleKey(0, index, 0)
        assert torch.equal(one[key][0], other[key][0])


def test_frame_folders_and_tars_give_the_same_clips(demo, tmp_path):
    convert(demo, tmp_path / "tars", quality=95)
    folders = tmp_path / "folders"
    shutil.copytree(demo / "labels", folders / "labels")
    shutil.unpack_archive(tmp_path / "tars/frames-tar/00000.tar", folders / "frames", "tar")
    batches, readers = [], []
    for root in (demo, tmp_path / "tars", folders):
        data = stages(module(root, select_on="official"))
        batches.append(next(iter(data.val_dataloader()))[0])
        readers.append(type(data.index.reader))
    assert readers == [PyAVReader, FrameTarReader, FrameFolderReader]
    assert torch.equal(batches[1][0], batches[2][0])
    assert torch.equal(batches[0][1], batches[1][1])
    assert abs(batches[0][0].int() - batches[1][0].int()).float().mean() < 2
    chosen = stages(module(demo, select_on="official", reader=PyAVReader()))
    assert torch.equal(next(iter(chosen.val_dataloader()))[0][0], batches[0][0])


@pytest.fixture
def damaged(demo, tmp_path):
    """A tree in which one training video is cut off, and its name."""
    root = tmp_path / "damaged"
    shutil.copytree(demo, root)
    name = annotated(root, "train")[0][5]
    path = root / "20bn-something-something-v2" / f"{name}.webm"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return root, f"20bn-something-something-v2/{name}.webm"


def test_a_damaged_video_raises(damaged):
    root, name = damaged
    data = stages(module(root, select_on="official", on_error="raise"))
    with pytest.raises(UnreadableSampleError, match=rf"sample 5, {name}: cut off: \d frames of 11"):
        list(data.train_dataloader())


def test_a_damaged_video_is_skipped_and_counted(damaged):
    root, name = damaged
    data = stages(module(root, select_on="official", on_error="skip", batch_size=13))
    batches = list(data.train_dataloader())
    assert sum(len(labels) for (_, labels, _), _ in batches) == 25
    failures = [failure for _, failed in batches for failure in failed]
    assert [failure.name for failure in failures] == [name]
    (bad,) = (batch for batch in batches if batch[1])
    with pytest.warns(UserWarning, match=f"skipped {name}: cut off"):
        data.on_before_batch_transfer(bad, 0)
    assert list(data.skipped["train"]) == [name]


def test_exclude_leaves_a_video_out_and_moves_no_other(damaged, tmp_path):
    root, name = damaged
    (tmp_path / "exclude.txt").write_text(f"# found\n{name}\n")
    whole_, rest = (
        module(root, val_size=4, exclude=exclude) for exclude in (None, tmp_path / "exclude.txt")
    )
    for split in ("train", "val"):
        before, after = (
            [dataset.source.name(index) for index in range(len(dataset))]
            for dataset in (whole_.open_split(split), rest.open_split(split))
        )
        assert after == [each for each in before if each != name]
    source = whole_.open_split("train").source
    reasons = {source.name(index): source.check(index) for index in range(len(source))}
    assert {each for each, reason in reasons.items() if reason} <= {name}


def test_missing_videos(demo, tmp_path):
    shutil.copytree(demo / "labels", tmp_path / "labels")
    with pytest.raises(FileNotFoundError, match="holds labels/, which is none of them"):
        module(tmp_path).setup("fit")
    folder = tmp_path / "20bn-something-something-v2"
    shutil.copytree(demo / folder.name, folder)
    gone = annotated(demo, "validation")[0][3]
    (folder / f"{gone}.webm").unlink()
    missing = rf"of 33, 1 annotation \({gone}\) are without a video"
    with pytest.raises(FileNotFoundError, match=missing):
        module(tmp_path).setup("fit")


def test_a_few_missing_videos_are_noted_and_left_out(demo, monkeypatch):
    monkeypatch.setattr("attnlab.data.video.annotations._TOLERATED", 0.1)
    find = PyAVReader.find
    ids, labels = annotated(demo, "validation")
    monkeypatch.setattr(PyAVReader, "find", lambda self, root: {**find(self, root), "x": "x"} | {})

    def without_one(self, root):
        found = find(self, root)
        del found[ids[3]]
        return found

    monkeypatch.setattr(PyAVReader, "find", without_one)
    data = module(demo)
    with pytest.warns(UserWarning, match=rf"1 annotation \({ids[3]}\) are without a video"):
        data.setup("test")
    assert data.datasets["test"].source.labels.tolist() == labels[:3] + labels[4:]
    assert data.notes()[0].endswith("without a video")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes=1 must be at least 2"),
        ({"frames": 0}, "frames=0"),
        ({"test_views": (0, 3)}, r"test_views=\(0, 3\) must be two positive numbers"),
        ({"flip": "swap"}, "flip='swap' must be one of off, on, swap_labels"),
        ({"select_on": "test"}, "select_on='test' must be one of held_out, official"),
        ({"sampling": "uniform"}, "sampling='uniform' must be one of pyslowfast, tsm, dense"),
        ({"val_size": 0}, "val_size=0 must be at least 1"),
        ({"train_transform": TrainTransform(SIZE)}, "train_transform must not mirror"),
        ({"train_transform": EvalTransform.__call__}, "must have a size, in pixels"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        module("nowhere", **options)
