"""The published QnA-ViT: counts, costs, windows, and swapping operators from the command line."""

import functools

import pytest
import torch
from jsonargparse import ArgumentParser

from attnlab.backbones.base import Backbone
from attnlab.backbones.blocks import Block
from attnlab.callbacks.complexity import forward_gflops
from attnlab.models import qna_vit
from attnlab.operators.baselines import DepthwiseConv, WindowAttention
from attnlab.operators.qna import QnA
from attnlab.tasks.heads import PooledClassifier

PUBLISHED = {  # parameters, GMACs
    "qna_vit_tiny": (15_715_560, 2.46),
    "qna_vit_tiny_7x7": (15_753_960, 2.54),
    "qna_vit_small": (24_971_560, 4.41),
    "qna_vit_base": (55_670_008, 9.60),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters_and_multiply_adds(name) -> None:
    parameters, gmacs = PUBLISHED[name]
    with torch.device("meta"):
        network = PooledClassifier(getattr(qna_vit, name)(), 1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    # Counted are matrix products and convolutions; the published figures hold 1 to 2 % more.
    assert forward_gflops(network, (3, 224, 224)) / 2 == pytest.approx(gmacs, rel=0.016)


@pytest.mark.parametrize(
    ("name", "last", "blocks"),
    [
        ("qna_vit_tiny", 0.05, 16),
        ("qna_vit_tiny_7x7", 0.05, 16),
        ("qna_vit_small", 0.2, 28),
        ("qna_vit_base", 0.5, 28),
    ],
)
def test_published_drop_path_grows_over_all_blocks_and_spares_strided_mixing(
    name, last, blocks
) -> None:
    with torch.device("meta"):
        network = getattr(qna_vit, name)()
    found = [module for module in network.modules() if isinstance(module, Block)]
    rates = [last * n / (blocks - 1) for n in range(blocks)]
    assert [block.mlp_drop.rate for block in found] == pytest.approx(rates)
    mixing = [0.0 if b.mixer.stride == 2 else r for b, r in zip(found, rates, strict=True)]
    assert [block.mix_drop.rate for block in found] == pytest.approx(mixing)
    assert mixing.count(0.0) == 4  # the first block's, and three that leave a stage


@pytest.mark.parametrize("name", PUBLISHED)
def test_windows(name) -> None:
    with torch.device("meta"):
        network = getattr(qna_vit, name)()
    layers = list(network.modules())
    qna = {layer.kernel_size for layer in layers if isinstance(layer, QnA)}
    assert qna == {7 if name == "qna_vit_tiny_7x7" else 3}
    local = {layer.dim: layer.window_size for layer in layers if isinstance(layer, WindowAttention)}
    width = network.patch_embed.out_channels
    assert local == {4 * width: 14, 8 * width: 7}


@pytest.mark.parametrize("name", PUBLISHED)
def test_pyramid_of_the_published_sizes(name) -> None:
    with torch.device("meta"):
        network = getattr(qna_vit, name)()
        chosen = getattr(qna_vit, name)(out_indices=(1, 3)).feature_info
    with torch.no_grad():
        maps = network.to_empty(device="cpu").forward_features(torch.zeros(2, 3, 64, 96))
    width = 96 if name == "qna_vit_base" else 64
    assert network.feature_info.reduction() == [4, 8, 16, 32]
    assert network.feature_info.channels() == [width, 2 * width, 4 * width, 8 * width]
    for level, channels, stride in zip(
        maps, network.feature_info.channels(), (4, 8, 16, 32), strict=True
    ):
        assert level.shape == (2, channels, 64 // stride, 96 // stride)
    assert (chosen.channels(), chosen.reduction()) == ([2 * width, 8 * width], [8, 32])


@pytest.mark.parametrize(
    ("image_size", "patch_size", "windows"),
    [
        (224, 4, (14, 7)),
        (384, 4, (24, 12)),
        ((97, 224), 4, (14, 7)),
        (200, 4, (13, 7)),
        (32, 1, (8, 4)),
        (32, 2, (4, 2)),
        ((37, 53), 4, (4, 2)),
    ],
)
def test_local_windows_cover_the_map_of_stages_three_and_four(
    image_size, patch_size, windows
) -> None:
    with torch.device("meta"):
        network = qna_vit.qna_vit_tiny(image_size, patch_size)
    layers = [layer for layer in network.modules() if isinstance(layer, WindowAttention)]
    assert {layer.dim: layer.window_size for layer in layers} == dict(
        zip((256, 512), windows, strict=True)
    )
    assert all(max(layer.grid) == layer.window_size for layer in layers)


@pytest.mark.parametrize(
    ("size", "patch_size", "grid"),
    [((32, 32), 1, (4, 4)), ((32, 32), 2, (2, 2)), ((37, 53), 4, (2, 2))],
)
def test_small_and_odd_images_train(size, patch_size, grid) -> None:
    torch.manual_seed(0)
    network = qna_vit.qna_vit_tiny(size, patch_size, in_channels=1)
    images = torch.randn(2, 1, *size)
    features = network(images)
    assert features.shape == (2, *grid, 512)
    (features * torch.randn(512)).sum().backward()
    idle = [
        name
        for name, p in network.named_parameters()
        if p.grad is None or not p.grad.isfinite().all()
    ]
    assert not idle
    # Windows are padded and masked: a network built for 224 pixels computes the same.
    larger = qna_vit.qna_vit_tiny(224, patch_size, in_channels=1).eval()
    state = network.state_dict()
    same = {
        name: value for name, value in state.items() if not name.endswith("bias_table")
    }  # zero at first, in windows of any size
    larger.load_state_dict(same, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(larger(images), network.eval()(images), rtol=1e-5, atol=1e-5)


def test_patch_and_image_sizes_below_one_are_named() -> None:
    with pytest.raises(ValueError, match="image_size=224 and patch_size=0 must be at least 1"):
        qna_vit.qna_vit_tiny(patch_size=0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_operators_sizes_and_drop_path_can_be_changed(name) -> None:
    with torch.device("meta"):
        network = getattr(qna_vit, name)(
            image_size=(32, 48),
            patch_size=2,
            drop_path=0.25,
            mixer=functools.partial(DepthwiseConv, kernel_size=5),
            local_mixer=functools.partial(WindowAttention, window_size=4),
        )
    layers = list(network.modules())
    assert not any(isinstance(layer, QnA) for layer in layers)
    assert {layer.kernel_size for layer in layers if isinstance(layer, DepthwiseConv)} == {5}
    assert {layer.window_size for layer in layers if isinstance(layer, WindowAttention)} == {4}
    assert network.stages[0].blocks[0].mixer.grid == (16, 24)
    assert network.stages[3].local_blocks[1].mlp_drop.rate == pytest.approx(0.25)


def test_a_study_sets_one_dotted_key() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Backbone, "backbone")
    arguments = [
        "--backbone=attnlab.models.qna_vit.qna_vit_tiny",
        "--backbone.init_args.image_size=[32, 20]",
        "--backbone.init_args.mixer.init_args.kernel_size=5",
        "--backbone.init_args.local_mixer=attnlab.operators.baselines.WindowAttention",
        "--backbone.init_args.local_mixer.init_args.window_size=2",
    ]
    with torch.device("meta"):
        network = parser.instantiate(parser.parse_args(arguments)).backbone
    layers = list(network.modules())
    assert {layer.kernel_size for layer in layers if isinstance(layer, QnA)} == {5}
    assert {layer.window_size for layer in layers if isinstance(layer, WindowAttention)} == {2}
    assert network.stages[0].blocks[0].mixer.grid == (8, 5)
