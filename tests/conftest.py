"""Test set-up shared by all packages."""

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each law of an operator's law book once per variant."""
    variants = getattr(metafunc.cls, "variants", None)
    if variants and "make" in metafunc.fixturenames:
        metafunc.parametrize("make", list(variants.values()), ids=list(variants))
