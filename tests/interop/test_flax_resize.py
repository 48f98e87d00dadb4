"""Other resolutions: tables over windows and maps are the same functions, sampled elsewhere."""

import numpy as np
import pytest
import torch

from attnlab.backbones.tables import resize_table
from attnlab.interop.flax import load_qna_vit
from attnlab.interop.flax_arrays import Slot
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.qna import QnA
from tests.interop.official import network_case


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture(scope="module")
def tiny() -> dict[str, np.ndarray]:
    return network_case("qna_vit_tiny")[1]


def test_the_size_of_the_arrays_changes_nothing(tiny) -> None:
    assert same(
        load_qna_vit("qna_vit_tiny", tiny, image_size=224), load_qna_vit("qna_vit_tiny", tiny)
    )
    meta, params, _, _ = network_case("qna_vit_mini_qnav1")
    built = load_qna_vit(meta["cfg"], params, image_size=64)
    assert same(built, load_qna_vit(meta["cfg"], params))


def centres(side: int) -> np.ndarray:
    """Centres of `side` cells between -1 and 1."""
    return (2 * np.arange(side) + 1) / side - 1


def function(rows: np.ndarray, columns: np.ndarray, phase: float) -> np.ndarray:
    return np.cos(rows[:, None] + phase) + 0.5 * np.sin(2 * columns[None] - phase)


def sampled(side: int, width: int) -> np.ndarray:
    """Return a smooth function per column [side * side, width]."""
    maps = [function(centres(side), centres(side), 0.1 * n) for n in range(width)]
    return np.stack(maps, -1).reshape(side**2, width).astype(np.float32)


def test_local_windows_grow_with_the_image_and_keep_their_function(tiny) -> None:
    smooth = {
        name: sampled(int(array.shape[0] ** 0.5), array.shape[1])
        if "RelativePositionalEmbedding" in name
        else array
        for name, array in tiny.items()
    }
    network = load_qna_vit("qna_vit_tiny", smooth, image_size=384)
    windows = [layer for layer in network.modules() if isinstance(layer, WindowAttention)]
    assert [layer.window_size for layer in windows] == [24] * 4 + [12] * 2
    for layer in windows:
        side = 2 * layer.window_size - 1
        expected = sampled(side, layer.heads).reshape(side, side, -1)
        table = layer.bias_table.detach().view(side, side, -1)
        error = np.abs(table.numpy() - expected)
        assert error[4:-4, 4:-4].max() < 5e-4
        assert error.max() < 0.05  # the function goes on behind the border, the table does not
    assert {layer.kernel_size for layer in network.modules() if isinstance(layer, QnA)} == {3}
    with torch.no_grad():
        assert network(torch.randn(1, 3, 97, 61)).isfinite().all()


def test_without_a_size_other_windows_are_an_error(tiny) -> None:
    name = "LSAStage_2/MSA_Block_1/MultiHeadSelfAttention_0/RelativePositionalEmbedding_0/rpe_bias"
    grown = tiny | {name: np.zeros((47**2, 8), np.float32)}
    message = rf"{name} has shape \(2209, 8\), expected \(729, 8\)"
    with pytest.raises(ValueError, match=message):
        load_qna_vit("qna_vit_tiny", grown)
    load_qna_vit("qna_vit_tiny", grown, image_size=224)


def test_windows_of_a_configuration_are_as_it_says_and_tables_follow() -> None:
    meta, params, _, _ = network_case("qna_vit_mini_qnav1")
    changed = meta["cfg"] | {"lsa_window": [8, 6, 4, 3]}
    with pytest.raises(ValueError, match=r"LSAStage_1.*rpe_bias has shape \(49, 4\), expected"):
        load_qna_vit(changed, params)
    network = load_qna_vit(changed, params, image_size=96)
    found = [layer.window_size for layer in network.modules() if isinstance(layer, WindowAttention)]
    assert found == [6, 4, 3]
    assert network.pool.scale.shape == (3, 3, 32)


def test_windows_of_qna_may_change_too() -> None:
    meta, params, _, _ = network_case("qna_vit_mini_qnav1")
    stage = "QnAStage_0/QnA_Block_1/FusedKQnA_0"
    scale = sampled(3, 4)
    changed = params | {f"{stage}/attn_scale_weights": scale.reshape(1, 1, 9, 4)}
    config = meta["cfg"] | {"qna_receptive_field": [5, 3, 3, 3]}
    network = load_qna_vit(config, changed, image_size=64)
    layers = [layer for layer in network.modules() if isinstance(layer, QnA)]
    assert [len(layer.scale) for layer in layers] == [25, 25, 9, 9, 9, 9, 9]
    wanted = resize_table(torch.from_numpy(scale).view(3, 3, 4), (5, 5)).flatten(0, 1)
    assert torch.equal(layers[0].scale, wanted)
    other = load_qna_vit(meta["cfg"], changed, image_size=64)
    assert torch.equal(
        next(m for m in other.modules() if isinstance(m, QnA)).scale, torch.from_numpy(scale)
    )


def test_head_reads_the_same_functions_of_position() -> None:
    meta, params, _, _ = network_case("qna_vit_mini_qnav2")
    name = "ClassificationHead_0/FusedKQnA_0"
    side, columns = 8, 32
    scale, bias = sampled(side, columns), sampled(side, columns)[:, ::-1]
    changed = params | {
        f"{name}/attn_scale_weights": scale.reshape(1, 1, side**2, columns),
        f"{name}/rpe_bias": bias,
    }
    network = load_qna_vit(meta["cfg"], changed, image_size=(160, 352))
    assert network.pool.scale.shape == network.pool.position_bias.shape == (5, 11, columns)
    for table, of in ((network.pool.scale, 1), (network.pool.position_bias, -1)):
        phases = 0.1 * np.arange(columns)[::of]
        expected = np.stack([function(centres(5), centres(11), phase) for phase in phases], -1)
        assert np.abs(table.detach().numpy() - expected).max() < 0.06  # cells of 2/5 are averaged
    at_its_own = load_qna_vit(meta["cfg"], changed)
    assert torch.equal(at_its_own.pool.scale.flatten(), torch.from_numpy(scale.copy()).flatten())


@pytest.mark.parametrize(
    "shape", [(50, 3), (49, 4), (49,), (0, 3), (1, 49, 3), ()]
)  # the table is (25, 3)
def test_what_is_no_square_table_of_as_many_columns_is_left_to_the_shape_check(shape) -> None:
    array = np.zeros(shape, np.float32)
    assert Slot((25, 3), None, grid=(5, 5)).resized(array) is array


def test_a_single_weight_for_all_offsets_is_no_table() -> None:
    array = np.zeros((1, 1, 9, 4), np.float32)
    assert Slot((1, 1, 1, 4), None).resized(array) is array
