"""The smaller copy is the same data set, and an interrupted one continues."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnlab.data.demo.imagenet import write
from attnlab.data.image.decode import decode
from attnlab.data.image.index import read_index
from attnlab.data.prepare import main

SIDE = 67  # some of the demo's images are larger, some are not


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "tree"
    write(root, classes=3, train=11, val=3, layout="flat")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNLAB_CACHE", str(tmp_path_factory.mktemp("cache")))


def run(root: Path, out: Path, *options: object) -> int:
    arguments = ["--root", root, "--out", out, "--resize", SIDE, "--workers", 0, *options]
    try:
        main(["imagenet", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_copy_has_the_same_images_smaller(demo: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert run(demo, out, "--workers", 2) == 0
    before, after = read_index(demo, 3), read_index(out, 3)
    assert after.layout == "class folders: train/<class>/, val/<class>/"
    assert after.classes == before.classes
    kinds = []
    for one, other in ((before.train, after.train), (before.official, after.official)):
        labels = dict(zip((Path(name).name for name in one.names), one.labels, strict=True))
        paths = {Path(name).name: demo / name for name in one.names}
        assert {
            Path(n).name: label for n, label in zip(other.names, other.labels, strict=True)
        } == (labels)
        for name in other.names:
            content, original = (out / name).read_bytes(), paths[Path(name).name].read_bytes()
            small, large = decode(content), decode(original)
            height, width = large.shape[:2]
            if min(height, width) <= SIDE and original.startswith(b"\xff\xd8"):
                kinds.append("copied")
                assert content == original
                continue
            kinds.append("shrunk")
            scale = min(1, SIDE / min(height, width))
            size = int(width * scale + 1e-9), int(height * scale + 1e-9)
            assert small.shape[1::-1] == size
            expected = Image.fromarray(large).resize(size, Image.Resampling.BICUBIC)
            assert np.abs(small.astype(int) - np.asarray(expected)).mean() < 4
    counts = {kind: kinds.count(kind) for kind in ("shrunk", "copied")}
    assert min(counts.values()) >= 5
    shown = capsys.readouterr().out
    assert f"{counts['shrunk']} images made smaller, {counts['copied']} copied, 0 there" in shown
    assert f"--data.root {out}" in shown


def test_it_continues_where_it_was_interrupted(demo: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    run(demo, out)
    files = sorted(out.glob("train/*/*"))
    content = files[4].read_bytes()
    files[4].unlink()
    files[5].write_bytes(b"not looked at")
    capsys.readouterr()
    assert run(demo, out) == 0
    assert files[4].read_bytes() == content
    assert files[5].read_bytes() == b"not looked at"
    assert "41 there before" in capsys.readouterr().out
    assert not list(out.rglob("*.tmp"))


def test_unreadable_images_are_listed(demo: Path, tmp_path: Path, capsys) -> None:
    root = Path(shutil.copytree(demo, tmp_path / "tree"))
    bad = sorted(root.glob("train/*/*"))[7]
    bad.write_bytes(b"<html>")
    out = tmp_path / "out"
    assert run(root, out) == 1
    assert "1 images cannot be read: see" in capsys.readouterr().err
    name = bad.relative_to(root).as_posix()
    assert (out / "failures.txt").read_text().startswith(f"{name}: a text or web page")
    assert len(list(out.glob("train/*/*"))) == 32


def test_images_of_other_kinds_become_jpegs(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name, size in (("a", (30, 40)), ("b", (90, 80))):
            path = tmp_path / "in" / split / "cat" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGBA", size, (200, 100, 50, 255)).save(path)
    assert run(tmp_path / "in", tmp_path / "out") == 0
    shapes = {}
    for path in (tmp_path / "out" / "val" / "cat").iterdir():
        assert path.read_bytes().startswith(b"\xff\xd8\xff")
        shapes[path.name] = decode(path.read_bytes()).shape
        np.testing.assert_allclose(decode(path.read_bytes())[3, 3], (200, 100, 50), atol=3)
    assert shapes == {"a.jpg": (40, 30, 3), "b.jpg": (SIDE, SIDE * 90 // 80, 3)}


def test_names_that_would_collide(demo: Path, tmp_path: Path, capsys) -> None:
    for path in ("train/cat/x.jpg", "train/cat/more/x.jpg", "val/cat/x.jpg"):
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).touch()
    assert run(tmp_path / "in", tmp_path / "out") == 2
    assert "1 names are there more than once in a class" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quality", 101], "quality=101 must be from 1 to 100"),
        (["--resize", 0], "resize=0 must be at least 1"),
        (["--root", "nowhere"], "root='nowhere' does not exist; accepted: "),
    ],
)
def test_bad_input_is_one_line(demo: Path, tmp_path: Path, capsys, options, message: str) -> None:
    assert run(demo, tmp_path / "out", *options) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_else_is_written_to(demo: Path, tmp_path: Path, capsys) -> None:
    assert run(demo, demo) == 2
    assert "must not be the root itself" in capsys.readouterr().err
    (tmp_path / "thesis.tex").touch()
    assert run(demo, tmp_path) == 2
    assert "holds other files" in capsys.readouterr().err
    assert run(demo, tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "prepared.json").read_text())["resize"] == SIDE
    assert run(demo, tmp_path / "out", "--resize", SIDE + 1) == 2
    assert f"'resize': {SIDE}, 'quality': 95}}, not with" in capsys.readouterr().err


def test_the_set_is_named(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["imagnet"])
    assert end.value.code == 2
    assert "'imagnet' (choose from" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["imagenet", "--help"])
    assert end.value.code == 0
    assert "attnlab prepare imagenet" in capsys.readouterr().out
