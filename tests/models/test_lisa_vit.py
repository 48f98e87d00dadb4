"""The named LisaViT sizes: parameter counts by formula, and construction from YAML."""

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from attnlab.backbones.base import Backbone
from attnlab.models.lisa_vit import lisa_vit_base, lisa_vit_small, lisa_vit_tiny
from attnlab.operators.baselines import SelfAttention
from attnlab.operators.lisa import LiSA

SIZES = [(lisa_vit_tiny, 192, 3), (lisa_vit_small, 384, 6), (lisa_vit_base, 768, 12)]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def operator_parameters(c: int, h: int, grid: tuple[int, int]) -> int:
    """Linear maps, basic kernel and RPE tables, then the gains tau and beta of each head."""
    d_k, g, r = 16, 1, 4
    offsets = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    return c * h * d_k + c * g * d_k + 2 * c**2 + h * d_k * r + (g + h) * r * offsets + 2 * h


@pytest.mark.parametrize(("build", "width", "heads"), SIZES)
def test_parameter_count(build, width: int, heads: int) -> None:
    with torch.device("meta"):
        model = build()
    patches, norms = width * (3 * 16**2 + 1), 2 * width
    mlp = 2 * 4 * width**2 + 5 * width
    block = 2 * norms + mlp + operator_parameters(width, heads, (14, 14))
    assert len(model.blocks) == 12
    assert count(model) == patches + 12 * block + norms
    assert model.num_features == width


@pytest.mark.parametrize(("build", "width", "heads"), SIZES)
def test_small_images_take_small_patches_of_their_channels(build, width: int, heads: int) -> None:
    with torch.device("meta"):
        model = build(image_size=(20, 28), patch_size=4, in_channels=1)
    assert model.patch_embed.weight.shape == (width, 1, 4, 4)
    assert (model.grid, model.blocks[0].mixer.grid) == ((5, 7), (5, 7))


def test_image_size_sizes_the_tables() -> None:
    with torch.device("meta"):
        model = lisa_vit_tiny(image_size=(96, 160))
    assert count(model.blocks[0].mixer) == operator_parameters(192, 3, (6, 10))


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_operator_is_swapped_from_yaml(size: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Backbone, "backbone")
    options = {"mixer": {"class_path": "attnlab.operators.baselines.SelfAttention"}}
    builder = {"class_path": f"attnlab.models.lisa_vit.lisa_vit_{size}", "init_args": options}
    with torch.device("meta"):
        model = parser.instantiate(parser.parse_object({"backbone": builder})).backbone
    assert all(isinstance(block.mixer, SelfAttention) for block in model.blocks)
    assert model.blocks[-1].mlp_drop.rate == pytest.approx(0.1)


def test_default_operator_and_its_options_from_yaml() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Backbone, "backbone")
    arguments = {"num_rpes": 2, "approximation": "fft"}
    mixer = {"class_path": "attnlab.operators.lisa.LiSA", "init_args": arguments}
    builder = "attnlab.models.lisa_vit.lisa_vit_tiny"
    for options, rpes, form in (({}, 4, "auto"), ({"mixer": mixer}, 2, "fft")):
        config = {"backbone": {"class_path": builder, "init_args": {"image_size": 32, **options}}}
        model = parser.instantiate(parser.parse_object(config)).backbone
        assert {type(block.mixer) for block in model.blocks} == {LiSA}
        assert {block.mixer.num_rpes for block in model.blocks} == {rpes}
        assert {block.mixer.approximation for block in model.blocks} == {form}
        assert model.eval()(torch.randn(1, 3, 32, 53)).shape == (1, 2, 4, 192)
