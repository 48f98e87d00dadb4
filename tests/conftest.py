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
