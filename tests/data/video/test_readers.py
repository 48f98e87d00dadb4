import importlib.util
import multiprocessing
import sys

import numpy as np
import pytest
import simplejpeg
from burned_clips import HEIGHT, WIDTH, burned_frame, numbers, write_webm

from attnlab.data.streamed import UnreadableSampleError
from attnlab.data.video.frames import FrameFolderReader
from attnlab.data.video.readers import PyAVReader
from attnlab.data.video.torchcodec import TorchCodecReader

COUNT = 37
PATTERN = [5, 3, 3, 36, 0, 17, 3]


@pytest.fixture(scope="module")
def webm(tmp_path_factory):
    return write_webm(tmp_path_factory.mktemp("webm") / "7.webm", COUNT)


def _reason(path, reader=None):
    """Return what is wrong, having made sure that every call says the same."""
    reader = reader or PyAVReader()
    said = reader.check(str(path))
    for call in (reader.count, lambda address: reader.clip(address, lambda count: [0])):
        with pytest.raises(UnreadableSampleError) as error:
            call(str(path))
        assert str(error.value) == said
    return said


def test_reads_exactly_the_frames_asked_for(webm):
    reader = PyAVReader()
    assert reader.count(str(webm)) == COUNT
    frames = reader.read(str(webm), PATTERN)
    assert frames.shape == (len(PATTERN), HEIGHT, WIDTH, 3)
    assert frames.dtype == np.uint8
    assert numbers(frames) == PATTERN
    assert numbers(reader.clip(str(webm), range)) == list(range(COUNT))
    assert reader.check(str(webm)) is None


def test_colours_are_those_encoded(webm):
    frames = PyAVReader().read(str(webm), [21]).astype(int)
    inner = abs(frames[0] - burned_frame(21))[4:20, 4:20]
    assert inner.max() < 16


@pytest.mark.parametrize("indices", [[-1], [0, COUNT], []])
def test_refuses_frames_that_there_are_not(webm, indices):
    with pytest.raises(ValueError, match=rf"must be in \[0, {COUNT}\)"):
        PyAVReader().read(str(webm), indices)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"empty file \(0 bytes\)"),
        (bytes(range(100, 200)) * 20, r"no webm \(starts with 64 65 66 67, not 1a 45 df a3\)"),
        (b"\n<!DOCTYPE html><title>404", "a text or web page saved as a video .*download it anew"),
        (b'{"error": "not found"}', "a text or web page saved as a video .*download it anew"),
    ],
)
def test_says_what_is_no_video(tmp_path, content, reason):
    path = tmp_path / "1.webm"
    path.write_bytes(content)
    with pytest.raises(UnreadableSampleError, match=f"^{reason}$"):
        raise UnreadableSampleError(_reason(path))


def test_header_alone(webm, tmp_path):
    path = tmp_path / "1.webm"
    path.write_bytes(webm.read_bytes()[:200])
    assert _reason(path).startswith("cannot be decoded, 200 bytes: ")


def test_a_video_cut_at_half_is_noticed_though_it_decodes(webm, tmp_path):
    path = tmp_path / "1.webm"
    content = webm.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    said = _reason(path)
    announced = rf"of {COUNT} \(3.08 s at 12 frames per second\) that its header announces"
    with pytest.raises(UnreadableSampleError, match=rf"^cut off: 1\d frames {announced}$"):
        raise UnreadableSampleError(said)


def test_random_damage_gives_one_line(webm, tmp_path):
    content = np.frombuffer(webm.read_bytes(), np.uint8)
    path = tmp_path / "1.webm"
    for seed in range(12):
        rng = np.random.default_rng(seed)
        damaged = content.copy()
        damaged[rng.integers(4, len(damaged), 200)] = rng.integers(0, 256, 200)
        path.write_bytes(damaged.tobytes())
        said = PyAVReader().check(str(path))
        assert said
        assert "\n" not in said


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        PyAVReader().count(str(tmp_path / "1.webm"))


def test_live_video_without_a_duration(tmp_path):
    path = write_webm(tmp_path / "1.webm", 13, live=True)
    assert numbers(PyAVReader().clip(str(path), range)) == list(range(13))


def test_variable_frame_rate_is_not_mistaken_for_a_cut(tmp_path):
    times = [0, 1, 5, 6, 11, 19, 20, 28, 29, 30, 40]
    path = write_webm(tmp_path / "1.webm", len(times), times=times)
    assert PyAVReader().check(str(path)) is None
    assert numbers(PyAVReader().clip(str(path), range)) == list(range(len(times)))


def _numbers_in_child(arguments):
    path, indices = arguments
    return numbers(PyAVReader().read(path, indices))


def test_forked_workers_read_the_same_frames(webm):
    reader = PyAVReader()
    reader.read(str(webm), [0])  # the parent has decoded before it forks
    jobs = [(str(webm), [first, COUNT - 1 - first]) for first in range(8)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(_numbers_in_child, jobs)
    assert found == [indices for _, indices in jobs]


def test_finds_videos_in_the_usual_folders(tmp_path):
    assert PyAVReader().find(tmp_path) == {}
    folder = tmp_path / "videos" / "20bn-something-something-v2"
    folder.mkdir(parents=True)
    for name in ("3.webm", "21.webm", ".9.webm", "notes.txt"):
        (folder / name).touch()
    assert PyAVReader().find(tmp_path) == {
        "3": str(folder / "3.webm"),
        "21": str(folder / "21.webm"),
    }


@pytest.fixture(params=["{:06d}.jpg", "img_{:05d}.jpg"])
def folder(tmp_path, request):
    folder = tmp_path / "frames" / "12"
    folder.mkdir(parents=True)
    for number in range(11):
        path = folder / request.param.format(number + 1)
        path.write_bytes(simplejpeg.encode_jpeg(burned_frame(number), 95))
    (folder / "notes.txt").touch()
    return folder


def test_frame_folders_give_the_frames_asked_for(folder):
    reader = FrameFolderReader()
    assert reader.find(folder.parent.parent) == {"12": str(folder)}
    assert reader.count(str(folder)) == 11
    assert numbers(reader.read(str(folder), [10, 2, 2, 7])) == [10, 2, 2, 7]
    assert reader.check(str(folder)) is None


def test_frame_folder_with_a_gap(folder):
    sorted(folder.glob("*.jpg"))[4].unlink()
    assert _reason(folder, FrameFolderReader()) == (
        "10 frames numbered 1 to 11: number 5 is missing"
    )


def test_frame_folder_without_frames(tmp_path):
    assert _reason(tmp_path, FrameFolderReader()).startswith("no frames: ")


def test_damaged_frame_is_named(folder):
    path = sorted(folder.glob("*.jpg"))[6]
    path.write_bytes(path.read_bytes()[:400])
    reader = FrameFolderReader()
    assert reader.read(str(folder), [5, 7]).shape[0] == 2
    with pytest.raises(UnreadableSampleError, match=f"frame {path.name}: "):
        reader.read(str(folder), [6])
    assert reader.check(str(folder)).startswith(f"frame {path.name}: ")


def test_frames_of_two_sizes(folder):
    path = sorted(folder.glob("*.jpg"))[3]
    path.write_bytes(simplejpeg.encode_jpeg(burned_frame(3)[:-2], 95))
    said = FrameFolderReader().check(str(folder))
    assert said == f"frame {path.name} is {HEIGHT - 2}x{WIDTH}, others are {HEIGHT}x{WIDTH}"


def test_torchcodec_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(ImportError, match=r"needs torchcodec \(pip install .*\) and .*FFmpeg: "):
        TorchCodecReader()


@pytest.mark.skipif(not importlib.util.find_spec("torchcodec"), reason="torchcodec is an extra")
def test_torchcodec_reads_the_same_frames(webm, tmp_path):
    reader = TorchCodecReader()
    assert reader.count(str(webm)) == COUNT
    assert (reader.read(str(webm), PATTERN) == PyAVReader().read(str(webm), PATTERN)).all()
    path = tmp_path / "1.webm"
    content = webm.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert _reason(path, reader) == _reason(path)
    live = write_webm(tmp_path / "2.webm", 13, live=True)
    assert numbers(reader.clip(str(live), range)) == list(range(13))
    damaged = np.frombuffer(content, np.uint8).copy()
    rng = np.random.default_rng(2)
    damaged[rng.integers(4, len(damaged), 200)] = rng.integers(0, 256, 200)
    path.write_bytes(damaged.tobytes())
    assert reader.check(str(path)).startswith("cannot be decoded")
