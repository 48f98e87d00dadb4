"""The published QnA-ViT: counts, costs, windows, and swapping operators from the command line."""

import functools

import pytest
import torch
from jsonargparse import ArgumentParser

from attnlab.backbones.base import Backbone
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
