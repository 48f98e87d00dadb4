"""The pyramid of any widths, and LiSA's two sizes of it."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from attnlab.backbones.pyramid import PatchMerge, Pyramid
from attnlab.models.lisa_pyramid import lisa_pyramid_base, lisa_pyramid_small
from attnlab.operators.baselines import SelfAttention

SMALL = {"widths": (8, 12, 20), "depths": (1, 2, 1), "heads": (1, 2, 5)}


def test_merging_reads_the_four_tokens_of_a_square():
    merge = PatchMerge(3, 5).double()
    x = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    merged = merge(x)
    assert merged.shape == (2, 3, 2, 5)
    square = torch.cat([x[1, 2, 2], x[1, 3, 2], x[1, 2, 3], x[1, 3, 3]])
    torch.testing.assert_close(merged[1, 1, 1], merge.linear(merge.norm(square)))
    below = torch.cat([x[1, 4, 0], torch.zeros(3), x[1, 4, 1], torch.zeros(3)])  # an odd grid
    torch.testing.assert_close(merged[1, 2, 0], merge.linear(merge.norm(below)))
    torch.testing.assert_close(merge(x[None])[0], merged)


def test_maps_of_all_stages_and_the_last_one_normalised():
    net = Pyramid(SelfAttention, image_size=(44, 52), **SMALL).eval()
    images = torch.randn(2, 3, 44, 52)
    maps = net.forward_features(images)
    assert [tuple(each.shape) for each in maps] == [(2, 8, 11, 13), (2, 12, 6, 7), (2, 20, 3, 4)]
    assert net.grid == (3, 4)
    assert net.feature_info.reduction() == [4, 8, 16]
    torch.testing.assert_close(net(images), net.norm(maps[-1].movedim(1, -1)))
    some = Pyramid(SelfAttention, image_size=44, out_indices=(1,), **SMALL)
    assert [each.shape[1] for each in some.forward_features(images)] == [12]


def test_drop_path_grows_over_all_blocks():
    net = Pyramid(SelfAttention, image_size=32, drop_path=0.3, **SMALL)
    rates = [block.mix_drop.rate for stage in net.stages for block in stage]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


def test_lists_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"widths=\(8, 12\), depths=\(1,\)"):
        Pyramid(SelfAttention, widths=(8, 12), depths=(1,), heads=(1, 1))


@pytest.mark.parametrize(
    ("build", "depths"),
    [(lisa_pyramid_small, [3, 4, 8, 3]), (lisa_pyramid_base, [5, 8, 20, 7])],
)
def test_sizes_of_lisa(build, depths):
    with torch.device("meta"):
        net = build()
    assert [len(stage) for stage in net.stages] == depths
    widths, heads = (64, 128, 320, 512), (1, 2, 5, 8)
    sides = (56, 28, 14, 7)
    expected = 64 * (3 * 16 + 1) + 2 * 512
    for width, head, side, depth in zip(widths, heads, sides, depths, strict=True):
        offsets = (2 * side - 1) ** 2
        operator = 16 * width * (head + 1) + 2 * width**2 + 64 * head + 4 * (head + 1) * offsets
        expected += depth * (operator + 2 * head + 8 * width**2 + 5 * width + 4 * width)
    expected += sum(8 * a + 4 * a * b for a, b in pairwise(widths))
    assert sum(parameter.numel() for parameter in net.parameters()) == expected
    # FFTs on the fine maps, dense sums on the coarse ones: only the former are declared as FLOPs.
    declared = [stage[0].mixer.uncounted_flops(stage[0].mixer.grid) > 0 for stage in net.stages]
    assert declared[0]
    assert not declared[-1]


def test_small_is_a_backbone_for_small_images():
    net = lisa_pyramid_small(image_size=32, patch_size=2, in_channels=1).eval()
    assert isinstance(net.norm, nn.LayerNorm)
    assert net(torch.randn(1, 1, 32, 32)).shape == (1, 2, 2, 512)
