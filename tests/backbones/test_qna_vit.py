"""QnA-ViT: any image size, the order of its blocks, and what it hands to its operators."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnlab.backbones.blocks import Block
from attnlab.backbones.qna_vit import QnAViT
from attnlab.operators.baselines import DepthwiseConv, WindowAttention
from attnlab.operators.qna import QnA

local = functools.partial(WindowAttention, window_size=3)


def small(mixer=QnA, local_mixer=local, **options) -> QnAViT:
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 2, "width": 8, "depths": (1, 2, 0), "heads": (2, 2, 4)}
    sizes |= {"local_depths": (0, 1, 2), "local_heads": (1, 2, 4)}
    return QnAViT(mixer, local_mixer, **(sizes | options))


def blocks(network: nn.Module) -> list[Block]:
    return [module for module in network.modules() if isinstance(module, Block)]


@pytest.mark.parametrize(
    ("patch_size", "size"),
    [(1, (8, 8)), (1, (5, 7)), (2, (32, 32)), (2, (13, 29)), (4, (37, 53)), (4, (1, 3))],
)
def test_any_image_size(patch_size, size) -> None:
    network = small(image_size=size, patch_size=patch_size)
    features = network(torch.randn(2, 3, *size))
    grid = tuple(-(-n // (4 * patch_size)) for n in size)
    assert features.shape == (2, *grid, 32)
    assert network.num_features == 32
    assert features.isfinite().all()


def hooked(network: QnAViT, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what each module that `feature_info` names puts out while the network runs."""
    seen: dict[str, torch.Tensor] = {}
    for name in network.feature_info.module_name(range(len(network.feature_info))):
        module = network.get_submodule(name)
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    network(images)
    return seen


@pytest.mark.parametrize("size", [(32, 32), (37, 53), (3, 29)])
def test_pyramid_holds_the_tokens_of_every_stage_before_it_leaves(size) -> None:
    network, images = small(patch_size=4).eval(), torch.randn(2, 3, *size)
    maps, info = network.forward_features(images), network.feature_info
    assert info.channels() == [8, 16, 32]
    assert info.reduction() == [4, 8, 16]
    for level, width, stride in zip(maps, (8, 16, 32), (4, 8, 16), strict=True):
        assert level.shape == (2, width, -(-size[0] // stride), -(-size[1] // stride))
    seen = hooked(network, images)
    for level, name in zip(maps, info.module_name(), strict=True):
        assert torch.equal(level, seen[name].movedim(-1, 1))
    # The last map is not normalised, and normalised it is what classification pools.
    assert torch.equal(network.norm(maps[-1].movedim(1, -1)), network(images))


def test_pyramid_returns_the_stages_chosen_and_runs_no_further() -> None:
    network = small(patch_size=4, out_indices=(0, -2)).eval()
    images = torch.randn(2, 3, 37, 53)
    every = small(patch_size=4).eval().forward_features(images)
    ran = []
    for index in range(2):
        downsample = network.stages[index].downsample
        downsample.register_forward_hook(lambda *_, index=index: ran.append(index))
    chosen = network.forward_features(images)
    assert ran == [0]
    assert network.feature_info.out_indices == (0, 1)
    assert all(torch.equal(a, b) for a, b in zip(chosen, every[:2], strict=True))
    with pytest.raises(ValueError, match=r"out_indices=\(0, 3\) must name some of the 3"):
        small(out_indices=(0, 3))


def test_grid_is_that_of_the_last_map() -> None:
    network = small(image_size=(37, 53), patch_size=4)
    assert network(torch.randn(1, 3, 37, 53)).shape[1:3] == network.grid == (3, 4)


def test_built_for_one_size_runs_on_another() -> None:
    network = small(image_size=(16, 8)).eval()
    same = small(image_size=(23, 31)).eval()
    images = torch.randn(2, 3, 23, 31)
    same.load_state_dict(network.state_dict())
    assert torch.equal(network(images), same(images))


def test_images_are_padded_right_and_bottom() -> None:
    network = small(patch_size=4).eval()
    images = torch.randn(2, 3, 13, 30)
    assert torch.equal(network(images), network(F.pad(images, (0, 2, 0, 3))))
    assert not torch.allclose(network(images), network(F.pad(images, (2, 0, 3, 0))))


def test_order_of_blocks_widths_heads_and_strides() -> None:
    found = [
        (type(block.mixer).__name__, block.mixer.dim, block.mixer.out_dim, block.mixer.heads)
        for block in blocks(small())
    ]
    assert found == [
        ("QnA", 8, 8, 2),
        ("QnA", 8, 16, 4),
        ("WindowAttention", 16, 16, 2),
        ("QnA", 16, 16, 2),
        ("QnA", 16, 16, 2),
        ("QnA", 16, 32, 4),
        ("WindowAttention", 32, 32, 4),
        ("WindowAttention", 32, 32, 4),
    ]
    assert [block.mixer.stride for block in blocks(small())] == [1, 2, 1, 1, 1, 2, 1, 1]
    grids = [block.mixer.grid for block in blocks(small(image_size=(32, 20)))]
    assert grids == [(16, 10)] * 2 + [(8, 5)] * 4 + [(4, 3)] * 2


def test_drop_path_grows_over_all_blocks_and_spares_strided_mixing() -> None:
    found = [(block.mix_drop.rate, block.mlp_drop.rate) for block in blocks(small(drop_path=0.7))]
    rates = [0.1 * n for n in range(8)]
    mixing = [0.0 if n in (1, 5) else rate for n, rate in enumerate(rates)]
    assert found == [
        (pytest.approx(m), pytest.approx(r)) for m, r in zip(mixing, rates, strict=True)
    ]


def test_strided_block_skips_by_a_strided_convolution_of_the_raw_input() -> None:
    block = small().stages[0].downsample
    x = torch.randn(2, 7, 5, 8)
    skip = F.conv2d(x.movedim(-1, 1), block.skip.linear.weight[..., None, None], stride=2)
    mixed = skip.movedim(1, -1) + block.mixer(F.layer_norm(x, (8,), eps=1e-6))
    hidden = F.gelu(block.mlp[0](F.layer_norm(mixed, (16,), eps=1e-6)), approximate="tanh")
    assert hidden.shape == (2, 4, 3, 64)
    assert torch.allclose(block(x), mixed + block.mlp[2](hidden), atol=1e-6)


def test_operators_are_swapped_for_all_stages_or_for_each() -> None:
    swapped = small(mixer=DepthwiseConv, local_mixer=None, local_depths=(0, 0, 0))
    assert {type(block.mixer) for block in blocks(swapped)} == {DepthwiseConv}
    sizes = [functools.partial(QnA, kernel_size=size) for size in (5, 1, 7)]
    per_stage = small(mixer=sizes, depths=(1, 1, 1))
    kernels = [
        block.mixer.kernel_size
        for block in blocks(per_stage)
        if block.mixer.heads != 1 and isinstance(block.mixer, QnA)
    ]
    assert kernels == [5, 5, 1, 1, 7]


def test_single_stage() -> None:
    network = small(depths=(2,), heads=(2,), local_depths=(0,), local_heads=(1,))
    assert network(torch.randn(1, 3, 6, 10)).shape == (1, 3, 5, 8)


def test_every_parameter_gets_gradient() -> None:
    network = small()
    # The squares of normalised features sum to a constant, so they are weighed.
    (network(torch.randn(2, 3, 32, 32)) * torch.randn(32)).sum().backward()
    idle = [name for name, p in network.named_parameters() if not p.grad.abs().max() > 0]
    assert not idle


def test_initial_values() -> None:
    network = small(width=32, patch_size=4)
    assert network.patch_embed.bias is None
    assert network.patch_embed.weight.std().item() == pytest.approx(48**-0.5, rel=0.05)
    block = network.stages[0].downsample
    assert block.skip.linear.bias is None
    assert block.skip.linear.weight.std().item() == pytest.approx(32**-0.5, rel=0.05)
    assert block.mlp[2].weight.std().item() == pytest.approx(256**-0.5, rel=0.05)
    assert not any(block.mlp[index].bias.any() for index in (0, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": (2, 2)}, r"heads=\(2, 2\)"),
        ({"depths": ()}, r"depths=\(\)"),
        ({"local_mixer": None}, r"local_depths=\(0, 1, 2\) need a local_mixer"),
        ({"mixer": [QnA, QnA]}, "2 mixers"),
        ({"patch_size": 0}, "patch_size=0"),
        ({"image_size": (0, 4)}, r"image_size=\(0, 4\)"),
        ({"drop_path": 1.0}, "rate=1.0"),
    ],
)
def test_rejects(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
