"""A real SLURM for the tests of a module, each of which finds and leaves it idle."""

from collections.abc import Iterator

import pytest

from tests.ablation.slurm.cluster import Cluster, missing


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    """A cluster of two nodes, which ends with the module."""
    if reason := missing():
        pytest.skip(reason)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """The cluster of the module, without the jobs of earlier tests."""
    yield running
    running.clear()
