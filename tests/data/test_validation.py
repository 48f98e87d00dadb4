"""`validate-data` finds every damaged file, once, and its list makes the next run clean."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from attnlab.data.demo.imagenet import write
from attnlab.data.imagenet import ImageNet
from attnlab.data.validation import Problem, Report, build, check_source, main, markdown

WNID = "n01440764"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "tree"
    write(root, classes=3, train=13, val=5, layout="flat")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNLAB_CACHE", str(tmp_path_factory.mktemp("cache")))


def config(root: Path, folder: Path, **arguments) -> Path:
    """Write an experiment, whose other sections do not matter here."""
    init = {"root": str(root), "num_classes": 3, "num_workers": 0} | arguments
    data = {"class_path": "attnlab.data.imagenet.ImageNet", "init_args": init}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({"model": {"class_path": "no.such.Model"}, "data": data}))
    return path


def run(*arguments: object) -> int:
    try:
        main([str(each) for each in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def broken(demo: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A tree with one file of each kind of damage: name to what is said of it."""
    root = Path(shutil.copytree(demo, tmp_path / "tree"))
    paths = sorted((root / "train" / WNID).iterdir())[3:]
    damaged = [*paths[:3], sorted((root / "val").iterdir())[2]]
    damaged[0].write_bytes(damaged[0].read_bytes()[:-40])
    damaged[1].write_bytes(b"<html><body>Not found</body></html>")
    damaged[2].write_bytes(b"")
    damaged[3].write_bytes(b"\x93NUMPY" * 40)
    reasons = ("image file is truncated", "web page", "empty file (0 bytes)", "no image format")
    names = (path.relative_to(root).as_posix() for path in damaged)
    return root, dict(zip(names, reasons, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_damaged_file_is_found_once(
    broken: tuple[Path, dict[str, str]], tmp_path: Path, workers: int, capsys
) -> None:
    root, expected = broken
    out = tmp_path / "out"
    code = run("--config", config(root, tmp_path), "--out", out, "--workers", workers)
    assert code == 1
    report = json.loads((out / "report.json").read_text())
    found = {each["name"]: each for each in report["problems"]}
    assert list(found) == list(expected)
    for name, reason in expected.items():
        assert reason in found[name]["reason"]
        assert found[name]["split"] in (("test",) if name.startswith("val/") else ("train", "val"))
    assert sum(report["samples"].values()) == 3 * 13 + 3 * 5
    assert report["data"] == "attnlab.data.imagenet.ImageNet"
    assert (out / "exclude.txt").read_text().splitlines() == list(expected)
    shown = capsys.readouterr().out
    assert "| test | 15 | 1 |" in shown
    assert (out / "report.md").read_text() in shown


def test_with_the_list_excluded_the_data_are_clean(
    broken: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    root, expected = broken
    path = config(root, tmp_path)
    assert run("--config", path, "--out", tmp_path / "out") == 1
    excluding = f"--data.exclude={tmp_path / 'out' / 'exclude.txt'}"
    assert run("--config", path, "--out", tmp_path / "again", excluding) == 0
    report = json.loads((tmp_path / "again" / "report.json").read_text())
    assert sum(report["samples"].values()) == 54 - len(expected)
    assert (tmp_path / "again" / "exclude.txt").read_text() == ""


def test_names_may_be_any_bytes(demo: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(demo, tmp_path / "tree"))
    folder = os.fsencode(root / "train" / WNID)
    for name in (b"caf\xe9.JPEG", " séparé\u2028#.JPEG".encode()):
        with open(os.path.join(folder, name), "wb"):
            pass
    path = config(root, tmp_path)
    assert run("--config", path, "--out", tmp_path / "out") == 1
    assert b"/caf\xe9.JPEG\n" in (tmp_path / "out" / "exclude.txt").read_bytes()
    assert "caf\\udce9.JPEG" in (tmp_path / "out" / "report.md").read_text()
    excluding = f"--data.exclude={tmp_path / 'out' / 'exclude.txt'}"
    assert run("--config", path, "--out", tmp_path / "again", excluding) == 0


def test_what_two_splits_share_is_read_once(demo: Path, tmp_path: Path) -> None:
    path = config(demo, tmp_path, select_on="official")
    assert run("--config", path, "--out", tmp_path) == 0
    samples = json.loads((tmp_path / "report.json").read_text())["samples"]
    assert samples == {"train": 39, "val": 15, "test": 0}


def test_oddities_of_the_set_count_under_strict(demo: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(demo, tmp_path / "tree"))
    next((root / "val").iterdir()).unlink()
    path = config(root, tmp_path)
    for option, code in ((), 0), (("--strict",), 1):
        with pytest.warns(UserWarning, match="lacks 1 of the 15 images"):
            assert run("--config", path, "--out", tmp_path / "out", *option) == code
        assert "lacks 1 of the 15 images" in (tmp_path / "out" / "report.md").read_text()


def test_a_set_in_memory_is_checked_by_loading_it(tmp_path: Path, capsys) -> None:
    path = tmp_path / "digits.yaml"
    path.write_text("data: {class_path: attnlab.data.digits8.Digits8}")
    assert run("--config", path, "--out", tmp_path) == 0
    assert "read and checked as a whole while loading" in capsys.readouterr().out


def test_later_files_and_arguments_replace_earlier_ones(demo: Path, tmp_path: Path) -> None:
    first = config(tmp_path / "nowhere", tmp_path, batch_size=3)
    second = tmp_path / "second.yaml"
    second.write_text("data: {init_args: {batch_size: 5, val_size: 7}}\ntrainer: {max_steps: 3}\n")
    data = build([first, second], [f"--data.root={demo}", "--data.val_size", "9"])
    assert isinstance(data, ImageNet)
    assert (data.root, data.batch_size, data.val_size) == (demo, 5, 9)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("model: {}", [], "experiment.yaml: no section 'data'"),
        ("data: [", [], "experiment.yaml: while parsing"),
        ("data: {class_path: attnlab.data.imagenet.ImgNet}", [], "ImgNet"),
        (None, ["--data.rot=x"], "'rot' is not accepted"),
        (None, ["--data.val_size=0"], "val_size=0 must be at least 1"),
        (None, ["--data.root=nowhere"], "root='nowhere' does not exist; accepted: "),
        (None, ["--data.num_classes=4"], "num_classes=4, but"),
        (None, ["--workers=-1"], "workers=-1 must not be negative"),
        (None, ["--trainer.max_steps=3"], "unknown argument --trainer.max_steps=3"),
    ],
)
def test_bad_input_is_one_line(
    demo: Path, tmp_path: Path, capsys, content: str | None, arguments: list[str], message: str
) -> None:
    path = config(demo, tmp_path)
    if content is not None:
        path.write_text(content)
    assert run("--config", path, "--out", tmp_path / "out", *arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("attnlab: error: ")
    assert shown.count("\n") == 1
    assert message in shown
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_one_line(tmp_path: Path, capsys) -> None:
    assert run("--config", tmp_path / "none.yaml") == 2
    assert "No such file" in capsys.readouterr().err


def test_a_long_list_is_cut_in_the_page_alone() -> None:
    problems = [Problem("train", f"{number}.jpg", "cut") for number in range(103)]
    page = markdown(Report("some.Data", {"train": 1234}, problems, [], 61.7))
    assert "| train | 1,234 | 103 |" in page
    assert "`99.jpg`" in page
    assert "`100.jpg`" not in page
    assert "and 3 more, in report.json" in page


class Numbered:
    """Samples of which every third is sound, and one ends the process."""

    labels = np.zeros(100, np.int64)

    def __init__(self, deadly: int | None = None) -> None:
        self.deadly = deadly

    def __len__(self) -> int:
        return 100

    def name(self, index: int) -> str:
        return f"sample-{index}"

    def read(self, index: int, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def check(self, index: int) -> str | None:
        if index == self.deadly:
            os._exit(3)
        return f"bad {index}" if index % 3 else None


def test_samples_are_checked_in_order() -> None:
    assert list(check_source(Numbered(), [5, 3, 7], workers=0)) == ["bad 5", None, "bad 7"]


def test_a_crash_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))
    with pytest.raises(ValueError, match=r"a worker died near sample-\d+; --workers 0 shows where"):
        list(check_source(Numbered(deadly=70), range(100), workers=1))
