import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import simplejpeg
from burned_clips import HEIGHT, WIDTH, numbers, write_webm

from attnlab.data.demo import ssv2
from attnlab.data.streamed import UnreadableSampleError
from attnlab.data.video import convert
from attnlab.data.video.frames import FrameTarReader
from attnlab.data.video.readers import PyAVReader


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Five videos, of which the fourth is damaged; their annotations are those of a demo tree."""
    root = tmp_path_factory.mktemp("webm")
    ssv2.write(root, train=1, val=1, test=1, frames=2)
    folder = root / "20bn-something-something-v2"
    shutil.rmtree(folder)
    folder.mkdir()
    for name, count in ((2, 3), (10, 11), (9, 1), (100, 4), (31, 7)):
        write_webm(folder / f"{name}.webm", count)
    (folder / "100.webm").write_bytes(b"<html>404</html>")
    return root


@pytest.fixture(scope="module")
def converted(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("tars")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "_PER_TAR", 2)
        convert.main(["--root", str(source), "--out", str(out), "--quality", "95"])
    return out


def test_tars_hold_the_frames_of_the_webm(source, converted):
    webm, tars = PyAVReader().find(source), FrameTarReader().find(converted)
    assert set(tars) == {"2", "9", "10", "31"}
    for name, address in tars.items():
        original = PyAVReader().clip(webm[name], range)
        assert FrameTarReader().count(address) == len(original)
        frames = FrameTarReader().clip(address, range)
        assert numbers(frames) == list(range(len(original)))
        assert abs(frames.astype(int) - original).mean() < 1.5
        assert FrameTarReader().check(address) is None
    assert numbers(FrameTarReader().read(tars["10"], [10, 0, 7, 7])) == [10, 0, 7, 7]


def test_tars_are_ordinary_ones_and_the_annotations_lie_beside_them(source, converted):
    stems = [path.stem for path in sorted((converted / "frames-tar").glob("*.tar"))]
    assert stems == ["00000", "00001", "00002"]
    with tarfile.open(converted / "frames-tar/00000.tar") as tar:
        names = tar.getnames()
        content = tar.extractfile("9/000001.jpg").read()
    assert names == ["2/000001.jpg", "2/000002.jpg", "2/000003.jpg", "9/000001.jpg"]
    assert simplejpeg.decode_jpeg(content).shape == (HEIGHT, WIDTH, 3)
    for name in ("labels.json", "train.json", "validation.json", "test.json", "test-answers.csv"):
        path = converted / "labels" / name
        assert path.read_bytes() == (source / "labels" / name).read_bytes()


def test_unreadable_videos_are_listed(converted):
    (line,) = (converted / "frames-tar/unreadable.txt").read_text().splitlines()
    assert line.startswith("100: a text or web page saved as a video")


def test_continues_where_it_was_interrupted(source, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "_PER_TAR", 2)
    encode, calls = convert.encode_clip, []

    def interrupted(clip, **options):
        calls.append(clip[0])
        if clip[0] == "31":
            raise KeyboardInterrupt
        return encode(clip, **options)

    monkeypatch.setattr(convert, "encode_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert.convert(source, tmp_path)
    assert calls == ["2", "9", "10", "31"]
    assert {path.name for path in (tmp_path / "frames-tar").iterdir()} == {
        *("00000.tar", "00000.index", "00000.json", "made_by.txt"),
    }
    first = (tmp_path / "frames-tar/00000.tar").stat().st_mtime_ns
    calls.clear()

    def counted(clip, **options):
        calls.append(clip[0])
        return encode(clip, **options)

    monkeypatch.setattr(convert, "encode_clip", counted)
    assert convert.convert(source, tmp_path)[0] == 4
    assert calls == ["10", "31", "100"]
    assert (tmp_path / "frames-tar/00000.tar").stat().st_mtime_ns == first
    assert len(FrameTarReader().find(tmp_path)) == 4


def test_several_processes_write_the_same_frames(source, converted, tmp_path):
    assert convert.convert(source, tmp_path, quality=95, workers=2)[0] == 4
    assert len(list((tmp_path / "frames-tar").glob("*.tar"))) == 1
    read = {name: FrameTarReader().clip(address, range) for name, address in _found(tmp_path)}
    for name, address in _found(converted):
        assert (FrameTarReader().clip(address, range) == read.pop(name)).all()
    assert not read


def _found(root):
    return FrameTarReader().find(root).items()


def test_a_copy_is_not_written_into_its_source(source):
    with pytest.raises(ValueError, match="must not be the root"):
        convert.convert(source, source / "labels" / "..")
    assert not (source / "frames-tar").exists()


def test_high_frames_are_lowered(tmp_path):
    clip = "7", str(write_webm(tmp_path / "7.webm", 3))
    name, contents = convert.encode_clip(clip, quality=95, height=24)
    frames = np.stack([simplejpeg.decode_jpeg(content) for content in contents])
    assert name == "7"
    assert frames.shape == (3, 24, 36, 3)
    assert numbers(frames) == [0, 1, 2]


def test_damaged_tars_are_noticed(converted, tmp_path):
    folder = tmp_path / "frames-tar"
    shutil.copytree(converted / "frames-tar", folder)
    address = FrameTarReader().find(tmp_path)["31"]
    tar, index = folder / "00001.tar", folder / "00001.index"
    size = json.loads((folder / "00001.json").read_text())["31"]
    table = index.read_bytes()
    index.write_bytes(table[: 16 * sum(size) - 1])
    with pytest.raises(UnreadableSampleError, match="the index beside the tar is cut off"):
        FrameTarReader().read(address, [0])
    index.write_bytes(table)
    last = np.frombuffer(table, "<i8")[-2]
    with tar.open("r+b") as file:
        file.truncate(last + 9)
    assert numbers(FrameTarReader().read(address, [5])) == [5]
    assert FrameTarReader().check(address) == f"the tar is cut off: {last + 9} bytes"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quality", "101"], "quality=101 must be from 1 to 100"),
        (["--workers", "0"], "workers=0 must be >= 1"),
        (["--root", "nowhere"], "root='nowhere' does not exist"),
        (["--height", "17"], "was begun with .*height 240, .* not with .*height 17"),
    ],
)
def test_bad_arguments_are_one_line(source, converted, options, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        convert.main(["--root", str(source), "--out", str(converted), "--quality", "95", *options])
    assert exit_.value.code == 2
    said = io.StringIO(capsys.readouterr().err).readlines()
    assert len(said) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(said[0])
