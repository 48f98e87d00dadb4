"""Test set-up shared by all packages."""

import pytest
from jaxtyping import install_import_hook

install_import_hook(["attnlab.operators", "attnlab.backbones"], "typecheck.checked")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each law of an operator's law book once per variant."""
    variants = getattr(metafunc.cls, "variants", None)
    if variants and "make" in metafunc.fixturenames:
        metafunc.parametrize("make", list(variants.values()), ids=list(variants))
