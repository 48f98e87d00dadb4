"""Networks on clips against the networks on images that they come from."""

import copy
import functools

import pytest
import torch
from torch import Tensor, nn

from attnlab.backbones.base import Backbone
from attnlab.backbones.blocks import Block, PatchEmbed
from attnlab.backbones.lisa_vit import LisaViT
from attnlab.backbones.pyramid import Pyramid
from attnlab.backbones.qna_vit import QnAViT
from attnlab.backbones.temporal import DividedBlock, FrameWise, TemporalShift, TubeletEmbed
from attnlab.backbones.video import VideoBackbone
from attnlab.callbacks.complexity import forward_gflops
from attnlab.operators.baselines import SelfAttention, WindowAttention
from attnlab.operators.lisa import LiSA
from attnlab.operators.qna import QnA
from attnlab.optim.groups import parameter_groups

SIZE = (20, 28)
TEMPORAL = {
    "lisa": LiSA,
    "qna": functools.partial(QnA, kernel_size=(3, 1)),
    "pyramid": SelfAttention,
}
MODES = ("tsn", "tsm", "tubelet3d", "divided")


def lisa(**options) -> LisaViT:
    mixer = functools.partial(LiSA, num_rpes=3, key_dim=5)
    return LisaViT(mixer, SIZE, 4, 2, 16, 2, 2, absolute_position=True, **options)


def qna(**options) -> QnAViT:
    sizes = {"depths": (1, 2), "heads": (2, 4), "local_depths": (0, 1), "local_heads": (1, 2)}
    local = functools.partial(WindowAttention, window_size=3)
    return QnAViT(QnA, local, SIZE, 4, 2, 16, **sizes, **options)


def pyramid(**options) -> Pyramid:
    mixer = functools.partial(LiSA, num_rpes=2, key_dim=3)
    sizes = {"widths": (16, 24), "depths": (1, 1), "heads": (2, 3)}
    return Pyramid(mixer, SIZE, 4, 2, **sizes, **options)


BUILDERS = {"lisa": lisa, "qna": qna, "pyramid": pyramid}


def network(name: str, **options) -> Backbone:
    """Return a network on images whose parameters are all away from their initial values."""
    torch.manual_seed(5)
    return perturbed(BUILDERS[name](**options)).double().eval()


def perturbed(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def video(name: str, mode: str, image: Backbone | None = None, **options) -> VideoBackbone:
    if mode == "divided":
        options = {"temporal_mixer": TEMPORAL[name], **options}
    backbone = copy.deepcopy(network(name) if image is None else image)
    return VideoBackbone(backbone, mode, **options).double().eval()


def clips(frames: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, frames, 2, *SIZE, generator=generator, dtype=torch.float64)


def static(frames: int) -> tuple[Tensor, Tensor]:
    images = clips(1)
    return images[:, 0], images.expand(-1, frames, -1, -1, -1)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("tsn", {}),
        ("tubelet3d", {"tubelet": 2}),
        ("tubelet3d", {"tubelet": 3, "kernel_frames": 5}),
        ("tubelet3d", {"tubelet": 3, "tubelet_init": "centre"}),
        ("tubelet3d", {"tubelet": 1, "kernel_frames": 1}),
        ("divided", {}),
    ],
)
def test_static_clip_gives_what_the_image_gave(name: str, mode: str, options: dict) -> None:
    image_network = network(name)
    converted = video(name, mode, image_network, frames=7, **options)
    for frames in (7, 5):
        image, clip = static(frames)
        expected = image_network(image)
        assert torch.allclose(converted(clip), expected, rtol=1e-9, atol=1e-11)
        for tokens in converted.tokens(clip).unbind(1):
            assert torch.allclose(tokens, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("name", "blocks"), [("lisa", 2), ("qna", 5), ("pyramid", 2)])
def test_shifted_static_clip_gives_it_away_from_its_ends(name: str, blocks: int) -> None:
    image_network = network(name)
    assert sum(isinstance(module, Block) for module in image_network.modules()) == blocks
    image, clip = static(2 * blocks + 3)
    tokens = video(name, "tsm", image_network)(clip), video(name, "tsm", image_network).tokens(clip)
    expected = image_network(image)
    same = [torch.allclose(frame, expected, rtol=1e-9, atol=1e-11) for frame in tokens[1].unbind(1)]
    assert same == [blocks <= i < blocks + 3 for i in range(2 * blocks + 3)]
    assert torch.equal(tokens[0], tokens[1].mean(1))


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("mode", MODES)
def test_only_tsn_and_mixers_without_positions_are_blind_to_the_order_of_frames(
    name: str, mode: str
) -> None:
    converted = perturbed(video(name, mode, frames=6))
    clip = clips(6)
    maps, shuffled = converted(clip), converted(clip[:, [1, 2, 0, 5, 3, 4]])
    backwards = converted(clip.flip(1))
    blind = mode == "tsn" or (mode, TEMPORAL[name]) == ("divided", SelfAttention)
    if blind:
        assert torch.allclose(maps, shuffled, rtol=1e-10, atol=1e-12)
        return
    assert (maps - shuffled).abs().max() > 1e-3
    assert (maps - backwards).abs().max() > 1e-3


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("mode", MODES)
def test_maps_are_means_over_time_as_the_contract_demands(name: str, mode: str) -> None:
    backbone = network(name, out_indices=(0, 1))
    converted = video(name, mode, backbone, frames=5)
    clip = clips(5)
    times = 3 if mode == "tubelet3d" else 5
    tokens = converted.tokens(clip)
    assert tokens.shape == (2, times, *backbone.grid, backbone.num_features)
    assert torch.equal(converted(clip), tokens.mean(1))
    assert (converted.grid, converted.num_features) == (backbone.grid, backbone.num_features)
    maps = converted.forward_features(clip)
    info = converted.feature_info
    assert [m.shape[1] for m in maps] == info.channels() == backbone.feature_info.channels()
    grids = [tuple(-(-side // step) for side in SIZE) for step in info.reduction()]
    assert [tuple(m.shape[2:]) for m in maps] == grids
    for module in info.module_name():
        converted.get_submodule(module)
    if mode == "tsn":
        frames = [backbone.forward_features(frame) for frame in clip.unbind(1)]
        for ours, *theirs in zip(maps, *frames, strict=True):
            assert torch.allclose(ours, torch.stack(theirs).mean(0), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_learns_and_decay_spares_what_it_did(name: str, mode: str) -> None:
    converted = perturbed(video(name, mode, frames=4))
    converted(clips(4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in converted.parameters())
    names = {id(p): n.rpartition(".")[2] for n, p in converted.named_parameters()}
    _, spared = ({names[id(p)] for p in g["params"]} for g in parameter_groups(converted))
    tables = {"scale", "position_bias"} if name == "qna" else {"composing", "encoding"}
    assert spared >= tables | {"bias"}


def test_tsn_and_tsm_add_no_parameters_and_load_what_they_save() -> None:
    count = sum(p.numel() for p in network("lisa").parameters())
    for mode in ("tsn", "tsm"):
        converted = video("lisa", mode)
        assert sum(p.numel() for p in converted.parameters()) == count
        fresh = VideoBackbone(lisa(), mode).double().eval()
        fresh.load_state_dict(converted.state_dict())
        assert torch.equal(fresh(clips(3)), converted(clips(3)))


def test_shift_moves_an_eighth_each_way_and_fills_with_zeros() -> None:
    x = torch.arange(1.0, 1 + 3 * 19).reshape(1, 3, 1, 1, 19)
    back, forth, still = TemporalShift(19)(x).split([2, 2, 15], dim=-1)
    first, second, third = x.unbind(1)
    zero = torch.zeros_like(first)
    assert torch.equal(back, torch.stack([second, third, zero], 1)[..., :2])
    assert torch.equal(forth, torch.stack([zero, first, second], 1)[..., 2:4])
    assert torch.equal(still, x[..., 4:])


def test_shift_precedes_the_mixer_inside_the_branch() -> None:
    converted = video("lisa", "tsm")
    block = converted.backbone.blocks[0]
    x = torch.randn(1, 3, 5, 7, 16, dtype=torch.float64)
    shifted = TemporalShift(16)(block.norm1(x))
    y = x + torch.stack([block.mixer.mixer.reference(frame) for frame in shifted.unbind(1)], 1)
    assert torch.allclose(block(x), y + block.mlp(block.norm2(y)), rtol=1e-9)
    assert torch.allclose(block.mixer.reference(x), block.mixer(x), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("centre", [False, True])
def test_tubelets_are_a_convolution_of_three_axes(centre: bool) -> None:
    torch.manual_seed(3)
    patches = PatchEmbed(2, 7, 4, SIZE)
    weight, bias = patches.weight.detach().clone(), patches.bias
    embed = TubeletEmbed(patches, 3, centre)
    clip = torch.randn(2, 8, 2, 8, 12)
    kernel = torch.zeros(7, 2, 3, 4, 4)
    kernel[:, :, 1] = weight
    if not centre:
        kernel = (weight / 3).unsqueeze(2).expand(-1, -1, 3, -1, -1)
    whole = torch.cat([clip, clip[:, -1:]], dim=1).transpose(1, 2)
    expected = torch.nn.functional.conv3d(whole, kernel, bias, stride=(3, 4, 4))
    assert torch.allclose(embed(clip), expected.movedim(1, -1), atol=1e-5)


def test_divided_mixes_every_place_over_time() -> None:
    torch.manual_seed(11)
    block = Block(FrameWise(SelfAttention(16, 2, (3, 5)))).double()
    divided = perturbed(DividedBlock(block, LiSA(16, 2, (4, 1)).double(), 0.0)).double()
    x = torch.randn(2, 4, 3, 5, 16, dtype=torch.float64)
    y = x.clone()
    for row in range(3):
        for column in range(5):
            line = divided.norm(x[:, :, row, column]).unsqueeze(2)
            y[:, :, row, column] += divided.out(divided.temporal.reference(line)).squeeze(2)
    assert torch.allclose(divided(x), block(y), rtol=1e-9, atol=1e-11)


def test_strided_blocks_stay_frame_by_frame() -> None:
    for mode, blocks in (("tubelet3d", 1), ("divided", 5)):
        converted = video("qna", mode)
        frame_wise = [m for m in converted.modules() if isinstance(m, FrameWise)]
        assert len(frame_wise) == blocks
        assert isinstance(converted.backbone.stages[0].downsample.mixer, FrameWise)
    windows = {m.window.size for m in video("qna", "tubelet3d").modules() if isinstance(m, QnA)}
    assert windows == {(3, 3), (3, 3, 3)}


@pytest.mark.parametrize("mode", ["tsn", "tsm"])
def test_flops_are_those_of_the_frames(mode: str) -> None:
    image = forward_gflops(lisa(), (2, *SIZE))
    clip = forward_gflops(VideoBackbone(lisa(), mode), (6, 2, *SIZE))
    assert clip == pytest.approx(6 * image, rel=1e-9)


def test_flops_of_tubelets_are_those_of_fewer_frames() -> None:
    narrow = functools.partial(LisaViT, QnA, SIZE, 4, 2, 16, 2, 2)
    image = forward_gflops(narrow(), (2, *SIZE))
    converted = VideoBackbone(narrow(), "tubelet3d", frames=6, tubelet=3, kernel_frames=1)
    embedding = 2 * 16 * 35 * (2 * 4 * 4) / 1e9  # of all six frames; of two in twice the image
    folded = 2 * 2 * (2 * 16 * 16) / 1e9  # queries meet the keys' weights once, not per time
    clip = forward_gflops(converted, (6, 2, *SIZE))
    assert clip == pytest.approx(2 * image + 4 * embedding - folded, rel=1e-9)


def test_flops_of_temporal_mixers_count_at_every_place() -> None:
    by_fft = functools.partial(LiSA, approximation="fft")  # no counter sees its FLOPs
    converted = VideoBackbone(lisa(), "divided", frames=5, temporal_mixer=by_fft)
    plain = VideoBackbone(lisa(), "tsn", frames=5)
    temporal = by_fft(16, 2, (5, 1))
    matrix = 2 * 5 * sum(p.numel() for n, p in temporal.named_parameters() if n.startswith("to_"))
    added = forward_gflops(converted, (5, 2, *SIZE)) - forward_gflops(plain, (5, 2, *SIZE))
    least = 2 * (5 * 7) * (temporal.uncounted_flops((5, 1)) + matrix) / 1e9
    assert least < added < 1.6 * least


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"video_mode": "slowfast"}, "video_mode='slowfast' must be one of tsn, tsm, tubelet3d"),
        ({"video_mode": "tubelet3d", "tubelet_init": "ends"}, "tubelet_init='ends' must be mean"),
        ({"video_mode": "tsn", "frames": 0}, "frames=0, tubelet=2 and kernel_frames=3 must be"),
        ({"video_mode": "divided"}, "temporal_mixer is None with video_mode='divided'"),
        ({"video_mode": "tsm", "temporal_mixer": LiSA}, "is a mixer with video_mode='tsm'"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoBackbone(lisa(), **options)


def test_narrow_tokens_cannot_be_shifted() -> None:
    with pytest.raises(ValueError, match="dim=6 must be at least 8"):
        VideoBackbone(LisaViT(SelfAttention, 8, 4, 1, 6, 1, 2), "tsm")


def test_operators_that_cannot_be_inflated_say_so() -> None:
    truncated = functools.partial(LiSA, approximation="truncated")
    with pytest.raises(ValueError, match="approximation='truncated' cannot be inflated to clips"):
        VideoBackbone(LisaViT(truncated, 8, 4, 1, 8, 1, 2), "tubelet3d")


def test_a_network_on_clips_is_not_converted_again() -> None:
    with pytest.raises(ValueError, match="backbone=VideoBackbone must be a network on images"):
        VideoBackbone(video("lisa", "tsn"), "tsn")


def test_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape=\(2, 2, 20, 28\) must be \[B, T, C, H, W\]"):
        video("lisa", "tsn")(clips(2)[:, 0])
