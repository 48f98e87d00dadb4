"""Whole networks analysed: what is measured where, and that the network is left alone."""

import math

import lightning as L
import pytest
import torch
from torch import nn

from attnlab.analysis.cka import MinibatchCKA, gram
from attnlab.analysis.kernels import similarity_of_heads
from attnlab.analysis.recording import HeldOut, evaluating, forward, layers, mixers
from attnlab.analysis.redundancy import analyse, off_diagonal
from attnlab.backbones.lisa_vit import LisaViT
from attnlab.backbones.qna_vit import QnAViT
from attnlab.backbones.video import VideoBackbone
from attnlab.operators.base import TokenMixer
from attnlab.operators.baselines import DepthwiseConv, GlobalFilter, SelfAttention
from attnlab.operators.lisa import LiSA
from attnlab.operators.qna import QnA
from attnlab.tasks.classification import ClassificationTask


class NoKernel(TokenMixer):
    def forward(self, x):
        return x.mean(dim=(1, 2), keepdim=True).expand_as(x)


def vit(mixer, depth=3, **options):
    torch.manual_seed(0)
    sizes = {"image_size": (12, 20), "patch_size": 4, "in_channels": 1, "width": 12, "heads": 3}
    return LisaViT(mixer, depth=depth, mlp_ratio=2, **sizes, **options)


def images(count=9, *shape, seed=1):
    shape = shape or (1, 12, 20)
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def test_layers_are_blocks_and_cka_is_of_their_tokens():
    network = vit(SelfAttention, drop_path=0.5)
    x = images()
    found = analyse(network, x.split(5))
    assert found.layers == ("blocks.0", "blocks.1", "blocks.2")
    assert found.samples == 9
    expected = MinibatchCKA()
    with evaluating(network):
        for batch in x.split(5):
            tokens, grams = network.patch_embed(batch), []
            for block in network.blocks:
                tokens = block(tokens)
                grams.append(gram(tokens))
            expected.update(grams)
    torch.testing.assert_close(found.cka, expected.compute())
    assert found.summary()["diag/cka"] == pytest.approx(off_diagonal(expected.compute()))


def test_kernels_are_those_at_the_tokens_that_the_mixer_is_given():
    network = vit(SelfAttention, depth=2)
    x = images(7)
    first, second = analyse(network, [x], kernel_samples=2).kernels
    block = network.blocks[0]
    with evaluating(network):
        tokens = block.norm1(network.patch_embed(x[[0, 6]]))  # the ends of the batch
        kappa = block.mixer.token_weights(tokens, torch.arange(15))
    expected = sum(map(similarity_of_heads, kappa)) / 2
    assert first.across_heads == pytest.approx(expected, abs=1e-6)
    assert (first.mixer, first.operator, first.grid) == ("blocks.0", "SelfAttention", (3, 5))
    assert (first.queries, first.keys, first.samples, first.highest_rank) == (15, 15, 2, 15)
    assert first.entropy.shape == first.rank.shape == first.relative.shape == (3,)
    assert first.across_heads != second.across_heads


def test_two_layers_of_one_kernel_are_wholly_alike():
    network = vit(DepthwiseConv, depth=2)
    network.blocks[1].mixer.load_state_dict(network.blocks[0].mixer.state_dict())
    found = analyse(network, [images()])
    table = found.similarity
    own = table[0, 0].item()  # between different channels
    channels = 12
    expected = (own * channels * (channels - 1) + channels) / channels**2
    assert table[0, 1].item() == table[1, 0].item() == pytest.approx(expected, abs=1e-5)
    assert found.kernels[0].samples == 1  # no sample changes it


def test_a_static_kernel_is_compared_with_one_of_every_sample():
    network = vit(DepthwiseConv, depth=2)
    network.blocks[1].mixer = SelfAttention(12, 3, (3, 5))
    found = analyse(network, [images()], kernel_samples=4)
    assert [one.samples for one in found.kernels] == [1, 4]
    assert math.isfinite(found.similarity[0, 1])


def test_same_image_twice_does_not_make_a_kernel_static():
    network = vit(SelfAttention, depth=1)
    x = images(5)
    x[1] = x[0]
    assert analyse(network, [x]).kernels[0].samples == 5


@pytest.mark.parametrize("mixer", [LiSA, QnA, GlobalFilter, DepthwiseConv, SelfAttention])
def test_nothing_is_changed_or_drawn(mixer):
    network = vit(mixer, depth=2, drop_path=0.3)
    network.train()
    network.blocks[0].eval()  # as a frozen part would be
    modes = [module.training for module in network.modules()]
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    found = analyse(network, [images()])
    assert len(found.kernels) == 2
    assert all(math.isfinite(value) for value in found.summary().values())
    assert len(found.summary()) == 7
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(weights[name], v) for name, v in network.state_dict().items())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_mixers_without_a_kernel_are_named():
    network = vit(NoKernel, depth=2)
    network.blocks[1].mixer = SelfAttention(12, 3, (3, 5))
    found = analyse(network, [images()])
    assert [one.mixer for one in found.kernels] == ["blocks.1"]
    assert found.without_kernel == {"blocks.0": "NoKernel has no kernel over tokens"}
    assert "diag/kernel_similarity_layers" not in found.summary()
    none = analyse(vit(NoKernel), [images()])
    assert set(none.summary()) == {"diag/cka"}


def test_layers_of_a_pyramid_are_compared_where_grids_agree():
    torch.manual_seed(0)
    network = QnAViT(
        QnA,
        image_size=16,
        patch_size=2,
        in_channels=1,
        width=8,
        depths=(2, 2),
        heads=(2, 4),
        local_depths=(0, 0),
        local_heads=(1, 1),
    )
    # As many queries everywhere: their places differ where a stride leaves fewer output tokens.
    task = ClassificationTask(network, 3)
    found = analyse(task, [images(5, 1, 16, 16)], max_queries=3)
    grids = [(one.grid, one.out_grid) for one in found.kernels]
    assert len(grids) == len(found.layers) == 5
    assert sorted(grids) == [((4, 4), (4, 4))] * 2 + [((8, 8), (4, 4))] + [((8, 8), (8, 8))] * 2
    for i, first in enumerate(grids):
        for j, second in enumerate(grids):
            assert found.similarity[i, j].isfinite().item() == (first == second)


@pytest.mark.parametrize("mode", ["tsm", "tubelet3d", "divided"])
def test_clips(mode):
    temporal = SelfAttention if mode == "divided" else None
    network = VideoBackbone(vit(SelfAttention, depth=2), mode, frames=4, temporal_mixer=temporal)
    found = analyse(ClassificationTask(network, 3), [images(6, 4, 1, 12, 20)], kernel_samples=5)
    assert found.layers == ("blocks.0", "blocks.1")
    names = [one.mixer for one in found.kernels]
    grids = [one.grid for one in found.kernels]
    expected = {"tsm": (3, 5), "tubelet3d": (2, 3, 5), "divided": (3, 5)}[mode]
    if mode == "divided":
        assert names == ["blocks.0.temporal", "blocks.0", "blocks.1.temporal", "blocks.1"]
        assert grids == [(4, 1), expected] * 2
        assert found.similarity[0, 2].isfinite()
        assert found.similarity[0, 1].isnan()
    else:
        assert names == ["blocks.0", "blocks.1"]
        assert grids == [expected] * 2
    assert {one.samples for one in found.kernels} == {5}


def test_networks_without_blocks_are_taken_mixer_by_mixer():
    bare = nn.Sequential(SelfAttention(6, 2, (3, 5)), nn.GELU(), SelfAttention(6, 2, (3, 5)))
    assert list(layers(bare)) == list(mixers(bare)) == ["0", "2"]
    with pytest.raises(ValueError, match="Linear has no token mixer"):
        layers(nn.Linear(2, 2))


def test_samples_are_copies_and_go_where_the_network_is():
    held_out, batch = HeldOut(5), torch.ones(7, 3)
    trainer = L.Trainer.__new__(L.Trainer)
    held_out.on_validation_batch_start(trainer, L.LightningModule(), [batch], 0)
    batch.zero_()  # as a loader may that uses its memory again
    assert [kept.tolist() for kept in held_out.batches] == [[[1.0] * 3] * 5]
    network, seen = nn.Linear(3, 2, device="meta"), []
    network.register_forward_pre_hook(lambda module, given: seen.append(given[0].device.type))
    forward(network, torch.ones(5, 3))
    assert seen == ["meta"]


@pytest.mark.parametrize("option", ["kernel_samples", "max_queries"])
def test_numbers_are_checked(option):
    with pytest.raises(ValueError, match=f"{option}=0 must be at least 1"):
        analyse(vit(SelfAttention), [images()], **{option: 0})
    with pytest.raises(ValueError, match="samples=0 must be at least 1"):
        HeldOut(0)


def test_few_queries_are_enough():
    found = analyse(vit(SelfAttention, depth=2), [images()], max_queries=4)
    assert (found.kernels[0].queries, found.kernels[0].highest_rank) == (4, 4)
    assert found.similarity.isfinite().all()
