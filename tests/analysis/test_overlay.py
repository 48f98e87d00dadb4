"""Kernels at chosen points of an image."""

import pytest
import torch

from attnlab.analysis import overlay
from attnlab.analysis.recording import evaluating
from attnlab.backbones.video import VideoBackbone
from attnlab.operators.baselines import DepthwiseConv, SelfAttention
from attnlab.operators.qna import QnA
from attnlab.tasks.video import VideoClassificationTask
from tests.analysis.test_redundancy import NoKernel, images, vit


def test_kernel_of_the_token_that_holds_the_pixel():
    network = vit(DepthwiseConv, depth=2)
    network.blocks[1].mixer = SelfAttention(12, 3, (3, 5))
    sample = images(1)[0]
    conv, attention = overlay.kernels_at(network, sample, [(11, 4), (0, 19)])
    assert (conv.mixer, attention.mixer) == ("blocks.0", "blocks.1")
    assert conv.places == attention.places == ((2, 1), (0, 4))
    assert (conv.kappa.shape, attention.kappa.shape) == ((2, 12, 3, 5), (2, 3, 3, 5))
    kernel = network.blocks[0].mixer.kernel.detach().squeeze(1)  # 7 x 7, the middle at 3, 3
    torch.testing.assert_close(conv.kappa[0], kernel[:, 1:4, 2:7])
    with evaluating(network):
        tokens = network.blocks[0](network.patch_embed(sample[None]))
        x = network.blocks[1].norm1(tokens)
        expected = network.blocks[1].mixer.token_weights(x, torch.tensor([11, 4]))[0]
    torch.testing.assert_close(attention.kappa.flatten(2).transpose(0, 1), expected)


def test_stride_counts_output_tokens():
    network = vit(QnA, depth=1)
    network.blocks[0].mixer = QnA(12, 3, (3, 5), stride=2)
    network.blocks[0].skip = QnA(12, 3, (3, 5), stride=2)
    one = overlay.kernels_at(network, images(1)[0], [(11, 4)])[0]
    assert (one.out_grid, one.places) == ((2, 3), ((1, 0),))
    window = one.kappa[0].abs().sum(0) > 0
    assert window.nonzero().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]


@pytest.mark.parametrize("point", [(12, 0), (0, 20), (-1, 3)])
def test_points_lie_in_the_image(point):
    with pytest.raises(ValueError, match="lies outside the 12x20 image"):
        overlay.kernels_at(vit(SelfAttention), images(1)[0], [point])


def test_mixers_without_a_kernel_are_left_out():
    network = vit(NoKernel, depth=2)
    network.blocks[1].mixer = SelfAttention(12, 3, (3, 5))
    assert [one.mixer for one in overlay.kernels_at(network, images(1)[0], [(0, 0)])] == [
        "blocks.1"
    ]


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("mode", ["tsm", "tubelet3d", "divided"])
def test_clips_show_their_middle_frame(mode, views):
    temporal = SelfAttention if mode == "divided" else None
    network = VideoBackbone(vit(DepthwiseConv), mode, frames=6, temporal_mixer=temporal)
    clip = images(6)
    found = overlay.kernels_at(
        VideoClassificationTask(network, 3),
        clip.expand(2, -1, -1, -1, -1) if views else clip,
        [(11, 4)],
    )
    assert [one.mixer for one in found] == ["blocks.0", "blocks.1", "blocks.2"]
    block = network.backbone.blocks[0]
    mixer = {"tsm": lambda: block.mixer.mixer, "tubelet3d": lambda: block.mixer}.get(
        mode, lambda: block.block.mixer.mixer
    )()
    kernel = mixer.kernel.detach().squeeze(1)
    frame = kernel if kernel.ndim == 3 else kernel[:, 3]
    torch.testing.assert_close(found[0].kappa[0], frame[:, 1:4, 2:7])


def test_picture_is_stretched_grey():
    clip = torch.zeros(5, 2, 3, 4)
    clip[2, :, 1, 2], clip[2, 0, 0, 0] = 3.0, -2.0
    grey = overlay.picture(clip)
    assert grey.shape == (3, 4)
    assert (grey[0, 0], grey[1, 2]) == (0, 1)
    torch.testing.assert_close(grey[2, 3], torch.tensor(0.25))
    assert overlay.picture(torch.full((1, 3, 4), 7.0)).abs().max() == 0


def test_default_points_are_in_the_image():
    assert overlay.default_points(32, 40) == ((16, 10), (16, 30), (4, 20))
    assert all(r < 1 and c < 1 for r, c in overlay.default_points(1, 1))


def test_learnt_maps_by_mixer():
    network = vit(DepthwiseConv, depth=2)
    maps = overlay.learnt_maps(network)
    assert list(maps) == [("blocks.0", "kernel"), ("blocks.1", "kernel")]
    torch.testing.assert_close(
        maps["blocks.1", "kernel"], network.blocks[1].mixer.kernel.detach().squeeze(1)
    )
