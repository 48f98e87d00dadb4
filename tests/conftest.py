"""Test set-up shared by all packages."""

import ctypes
import gc
import os
import sys

import pytest
from jaxtyping import install_import_hook
from typecheck import modules

# Read when triton is first imported; with a GPU, TRITON_INTERPRET=0 tests the compiled kernels.
os.environ.setdefault("TRITON_INTERPRET", "1")
install_import_hook(modules(), "typecheck.checked")


LONG = (
    *("tests/faults/", "tests/ablation/slurm/", "tests/models/test_qna_vit_bfloat16.py"),
    *(
        "tests/callbacks/",
        "tests/ablation/search/",
        "tests/test_",
        "tests/backbones/test_export.py",
    ),
    *("tests/operators/lisa/test_fused.py", "tests/operators/qna/test_fused.py"),
)
"""Where the long tests are. They begin first, so that none of them is left to run by itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long tests first, in their order; all others follow as they are."""

    def rank(item: pytest.Item) -> int:
        long = (number for number, start in enumerate(LONG) if item.nodeid.startswith(start))
        return next(long, len(LONG))

    items.sort(key=rank)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each law of an operator's law book once per variant."""
    variants = getattr(metafunc.cls, "variants", None)
    if variants and "make" in metafunc.fixturenames:
        metafunc.parametrize("make", list(variants.values()), ids=list(variants))


@pytest.fixture
def trimmed_heap() -> None:
    """Give back freed memory, in which what a test allocates next would not show."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
