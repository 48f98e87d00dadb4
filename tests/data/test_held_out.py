"""The part of the training data that is held out for validation."""

import numpy as np
import pytest

from attnlab.data.held_out import hold_out

LABELS = np.repeat([3, 0, 5], [11, 6, 2]).astype(np.int64)


def test_every_class_gives_its_share():
    rest, held = hold_out(LABELS, 7, seed=1)
    assert sorted([*rest, *held]) == list(range(19))
    assert list(held) == sorted(held)
    # Shares 4.05, 2.2 and 0.7: the largest remainder gives the seventh.
    assert {label: int((LABELS[held] == label).sum()) for label in (3, 0, 5)} == {3: 4, 0: 2, 5: 1}


def test_the_split_depends_on_its_seed_alone():
    first, again, other = (hold_out(LABELS, 7, seed=seed)[1] for seed in (1, 1, 2))
    assert list(first) == list(again)
    assert list(first) != list(other)
    permutations = {tuple(hold_out(LABELS, 3, seed=seed)[1]) for seed in range(20)}
    assert len(permutations) > 10


def test_every_class_keeps_a_sample():
    rest, held = hold_out(LABELS, 16, seed=0)
    assert len(held) == 16
    assert sorted(LABELS[rest]) == [0, 3, 5]


@pytest.mark.parametrize("size", [0, 17])
def test_an_impossible_part_is_refused(size):
    with pytest.raises(ValueError, match=f"{size} samples cannot be held out .* 1 to 16 can"):
        hold_out(LABELS, size, seed=0)
