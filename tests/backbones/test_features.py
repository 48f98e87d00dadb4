"""What backbones say about their feature maps, as timm's `feature_info` does."""

import pytest

from attnlab.backbones.features import FeatureInfo


def info(*out_indices: int) -> FeatureInfo:
    return FeatureInfo([11, 13, 17], [2, 4, 8], ["a", "b", "c"], out_indices)


def test_without_an_index_it_answers_for_the_maps_returned() -> None:
    chosen = info(0, -1)
    assert chosen.out_indices == (0, 2)
    assert chosen.channels() == [11, 17]
    assert chosen.reduction() == [2, 8]
    assert chosen.module_name() == ["a", "c"]


def test_an_index_counts_all_maps_that_there_are() -> None:
    chosen = info(2)
    assert chosen.channels(1) == 13
    assert chosen.reduction([0, 1]) == [2, 4]
    assert chosen.module_name((1,)) == ["b"]
    assert len(chosen) == 3
    assert chosen[1] == {"num_chs": 13, "reduction": 4, "module": "b", "index": 1}


@pytest.mark.parametrize("wrong", [(), (3,), (-4,), (1, 0), (1, 1), (0, -3), (0, 1, 5)])
def test_maps_that_are_not_there_or_out_of_order_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"out_indices=.* must name some of the 3 feature maps"):
        info(*wrong)
