"""Trials that run at a time share the machine without stepping on each other."""

import os

import pytest

from attnlab.ablation import resources
from attnlab.ablation.errors import UserError
from tests.ablation.test_cells import make_profile


def test_cores_are_shared_out_to_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "cores", lambda: 7)
    assert resources.room(make_profile(threads_per_cell=2)) == 3
    assert resources.room(make_profile(threads_per_cell=16)) == 1
    assert resources.slots(make_profile(threads_per_cell=2), 2) == 2 * [
        {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    ]


def test_each_trial_has_its_own_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {0: (0, 0, 0), 1: (0, 1, 1), 2: (0, 2, 2), 4: (0, 0, 4), 5: (0, 1, 5), 7: (1, 0, 7)}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(places))
    monkeypatch.setattr(resources, "_place", places.__getitem__)
    monkeypatch.setattr(resources, "cores", lambda: 6)
    assert resources.shares(3, 2) == [{0, 4}, {1, 5}, {2, 7}]  # halves of one core together
    assert resources.shares(2, 1) == [{0, 4, 1}, {5, 2, 7}]
    assert resources.shares(4, 2) == [set()] * 4  # too many: the kernel shares out
    assert resources.shares(1, 2) == [set()]
    monkeypatch.setattr(resources, "cores", lambda: 3)  # a quota says how many, not which
    assert resources.shares(3, 1) == [{0, 4}, {1, 5}, {2, 7}]
    assert resources.shares(3, 2) == [set()] * 3


def test_an_overload_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "cores", lambda: 7)
    profile = make_profile(threads_per_cell=2)
    assert resources.overload(profile, 3) == ""
    assert resources.overload(profile, 4) == (
        "4 trials at a time of 2 threads each want 8 cores; "
        "this machine has 7: they slow each other down"
    )


def test_cores_are_no_more_than_this_process_may_use() -> None:
    assert 1 <= resources.cores() <= len(os.sched_getaffinity(0))


def test_each_slot_has_gpus_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,GPU-a,7,11")
    profile = make_profile(gpus_per_cell=2)
    assert resources.room(profile) == 2
    devices = [slot["CUDA_VISIBLE_DEVICES"] for slot in resources.slots(profile, 2)]
    assert devices == ["3,5", "GPU-a,7"]


def test_too_few_gpus_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    profile = make_profile(gpus_per_cell=2)
    assert resources.room(profile) == 0
    with pytest.raises(UserError) as caught:
        resources.slots(profile, resources.room(profile))
    assert str(caught.value) == (
        "profile laptop takes 2 GPUs for each of 1 trials at a time; this machine shows 1"
    )
