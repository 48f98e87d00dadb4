"""Small trees in every layout, and a cache of their own."""

from pathlib import Path

import pytest

from attnlab.data.demo.imagenet import Layout, write


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ATTNLAB_CACHE", str(cache))
    return cache


@pytest.fixture
def tree(tmp_path: Path):
    """Return a function that writes a tree of three classes, 5 and 3 images each."""

    def make(layout: Layout = "folders", classes: int = 3) -> Path:
        write(tmp_path / layout, seed=1, classes=classes, train=5, val=3, layout=layout)
        return tmp_path / layout

    return make
