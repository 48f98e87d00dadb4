"""LisaViT: shapes on any image, what each part computes, initialisation, and YAML construction."""

import math
from functools import partial

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from attnlab.backbones.base import Backbone
from attnlab.backbones.lisa_vit import LisaViT, resize_positions
from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.baselines import DepthwiseConv, SelfAttention
from attnlab.optim.groups import parameter_groups

small = partial(LisaViT, image_size=(20, 12), patch_size=4, width=12, depth=3, heads=3)


class Still(TokenMixer):
    """Mixes nothing: blocks reduce to their MLPs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def test_hands_every_operator_its_place() -> None:
    asked = []

    def record(
        dim: int, heads: int, grid: Grid, stride: int = 1, *, out_dim: int | None = None
    ) -> TokenMixer:
        asked.append((dim, heads, grid, stride, out_dim))
        return Still(dim, heads, grid, stride, out_dim=out_dim)

    small(record, image_size=(21, 12))
    assert asked == [(12, 3, (6, 3), 1, None)] * 3


@pytest.mark.parametrize("absolute_position", [False, True])
@pytest.mark.parametrize("size", [(20, 12), (8, 8), (31, 29), (3, 41)])
def test_takes_images_of_any_size(size: tuple[int, int], absolute_position: bool) -> None:
    model = small(SelfAttention, absolute_position=absolute_position)
    out = model(torch.randn(2, 3, *size))
    assert out.shape == (2, math.ceil(size[0] / 4), math.ceil(size[1] / 4), 12)
    assert out.isfinite().all()
    assert model.num_features == 12


def test_padding_is_zeros_on_the_right_and_at_the_bottom() -> None:
    model, image = small(SelfAttention), torch.randn(1, 3, 18, 11)
    padded = torch.zeros(1, 3, 20, 12)
    padded[:, :, :18, :11] = image
    assert torch.equal(model(image), model(padded))


def test_patches_are_embedded_in_place() -> None:
    """Without mixing and MLPs the output is the normalised affine map of each patch alone."""
    model = small(Still, in_channels=2)
    with torch.no_grad():
        model.patch_embed.bias.normal_()
        for block in model.blocks:
            block.mlp[2].weight.zero_()
    image = torch.randn(1, 2, 20, 12)
    patch = image[0, :, 4:8, 8:12].flatten()
    embedded = model.patch_embed.weight.flatten(1) @ patch + model.patch_embed.bias
    expected = (embedded - embedded.mean()) / (embedded.var(correction=0) + 1e-6).sqrt()
    torch.testing.assert_close(model(image)[0, 1, 2], expected, rtol=1e-5, atol=1e-5)


def test_blocks_follow_one_another_and_the_norm_comes_last() -> None:
    model = small(DepthwiseConv).double().eval()
    image = torch.randn(2, 3, 20, 12, dtype=torch.float64)
    x = model.patch_embed(image)
    for index in range(3):
        x = model.blocks[index](x)
    torch.testing.assert_close(model(image), model.norm(x))
    assert len({id(block.mixer) for block in model.blocks}) == 3


def test_features_are_the_tokens_of_the_blocks_chosen_before_the_norm() -> None:
    model = small(DepthwiseConv, depth=4, out_indices=(0, 2), absolute_position=True).eval()
    image = torch.randn(2, 3, 37, 23)
    first = model.blocks[0](model.patch_embed(image) + resize_positions(model.position, (10, 6)))
    third = model.blocks[2](model.blocks[1](first))
    found = model.forward_features(image)
    assert [tuple(level.shape) for level in found] == [(2, 12, 10, 6)] * 2
    for level, expected in zip(found, (first, third), strict=True):
        torch.testing.assert_close(level, expected.movedim(-1, 1))
    assert model.feature_info.channels() == [12, 12]
    assert model.feature_info.reduction() == [4, 4]
    assert model.feature_info.module_name() == ["blocks.0", "blocks.2"]
    assert small(DepthwiseConv).feature_info.out_indices == (2,)
    assert model.grid == (5, 3)


def test_position_table_is_added_to_its_token_and_spared_from_decay() -> None:
    model = small(Still, absolute_position=True).double()
    plain = small(Still).double()
    plain.load_state_dict(model.state_dict(), strict=False)
    image = torch.zeros(1, 3, 20, 12, dtype=torch.float64)
    with torch.no_grad():
        model.position.zero_()
        model.position[0, 3, 1] = torch.randn(12, dtype=torch.float64)
    moved = (model(image) - plain(image)).abs().amax(-1)[0] > 1e-9
    expected = torch.zeros(5, 3, dtype=torch.bool)
    expected[3, 1] = True
    assert torch.equal(moved, expected)
    _, spared = parameter_groups(model)
    assert any(parameter is model.position for parameter in spared["params"])


def keys_cubic(distance: torch.Tensor, a: float = -0.75) -> torch.Tensor:
    """Weight of a sample at a distance in cubic convolution (Keys 1981)."""
    d = distance.abs()
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0))


def test_positions_are_interpolated_bicubically_between_grids() -> None:
    table = torch.zeros(1, 6, 8, 2)
    assert resize_positions(table, (6, 8)) is table
    table[0, 2, 4, 1] = 1.0
    rows = (torch.arange(12) + 0.5) / 2 - 0.5  # the new centres in units of the old grid
    columns = (torch.arange(24) + 0.5) / 3 - 0.5
    resized = resize_positions(table, (12, 24))
    expected = torch.outer(keys_cubic(rows - 2), keys_cubic(columns - 4))
    torch.testing.assert_close(resized[0, :, :, 1], expected)
    assert not resized[..., 0].any()


def test_positions_act_on_another_grid() -> None:
    model = small(Still, absolute_position=True)
    image = torch.zeros(1, 3, 40, 24)
    tokens = model.patch_embed(image) + resize_positions(model.position, (10, 6))
    torch.testing.assert_close(model(image), model.norm(model.blocks(tokens)))


def test_drop_path_grows_linearly() -> None:
    model = small(SelfAttention, depth=5, drop_path=0.4)
    rates = [block.mlp_drop.rate for block in model.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert [block.mix_drop.rate for block in model.blocks] == rates


def test_initialisation_leaves_operators_alone() -> None:
    torch.manual_seed(1)
    model = LisaViT(SelfAttention, 32, 2, width=96, depth=2, heads=3, absolute_position=True)
    for block in model.blocks:
        assert block.mlp[0].weight.std().item() == pytest.approx(96**-0.5, rel=0.05)
        assert block.mlp[2].weight.std().item() == pytest.approx(384**-0.5, rel=0.05)
        assert not block.mlp[0].bias.any()
        assert not block.mlp[2].bias.any()
        assert block.mixer.proj.weight.std().item() == pytest.approx(96**-0.5, rel=0.05)
    assert model.patch_embed.weight.std().item() == pytest.approx(12**-0.5, rel=0.1)
    assert not model.patch_embed.bias.any()
    assert model.position.std().item() == pytest.approx(0.02, rel=0.05)


def test_parameter_count() -> None:
    model = LisaViT(Still, 32, 4, in_channels=5, width=24, depth=2, heads=3, mlp_ratio=3.0)
    patches, norms, mlp = 24 * (5 * 16 + 1), 2 * 24, 2 * 24 * 72 + 72 + 24
    assert sum(p.numel() for p in model.parameters()) == patches + 2 * (2 * norms + mlp) + norms


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": (0, 8)}, r"image_size=\(0, 8\)"),
        ({"patch_size": 0}, "patch_size=0"),
        ({"depth": 0}, "depth=0"),
        ({"heads": 5}, "heads=5"),
        ({"drop_path": 1.0}, "rate=1.0"),
    ],
)
def test_rejects_impossible_sizes(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(SelfAttention, **wrong)


@pytest.mark.parametrize(
    ("operator", "options"),
    [
        ("SelfAttention", {}),
        ("WindowAttention", {"window_size": 3}),
        ("DepthwiseConv", {"kernel_size": 3}),
        ("GlobalFilter", {}),
    ],
)
def test_is_built_from_yaml_with_any_operator(operator: str, options: dict) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Backbone, "backbone")
    class_path = f"attnlab.operators.baselines.{operator}"
    arguments = {
        "mixer": {"class_path": class_path, "init_args": options},
        "image_size": 8,
        "patch_size": 2,
        "width": 12,
        "depth": 2,
        "heads": 3,
    }
    config = parser.parse_object(
        {"backbone": {"class_path": "attnlab.backbones.lisa_vit.LisaViT", "init_args": arguments}}
    )
    model = parser.instantiate(config).backbone
    assert isinstance(model, nn.Module)
    for block in model.blocks:
        assert type(block.mixer).__name__ == operator
        assert all(getattr(block.mixer, name) == value for name, value in options.items())
    assert model(torch.randn(1, 3, 8, 8)).shape == (1, 4, 4, 12)
    assert model(torch.randn(1, 3, 32, 29)).shape == (1, 16, 15, 12)
