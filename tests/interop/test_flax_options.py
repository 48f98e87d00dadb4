"""Options of official configurations: what is read, and that all else is a ValueError."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attnlab.backbones.blocks import Block
from attnlab.interop.flax import load_qna_layer, load_qna_vit, read_train_state

GOLDEN = Path(__file__).parents[1] / "golden"


def layer_case() -> tuple[dict[str, Any], dict[str, np.ndarray], np.ndarray]:
    arrays = np.load(GOLDEN / "qna_layer_k3.npz")
    params = {key.removeprefix("param/"): arrays[key] for key in arrays if key.startswith("param/")}
    return json.loads(str(arrays["config"])), params, arrays["config"]


@pytest.fixture(scope="module")
def mini() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    meta = json.loads(str(np.load(GOLDEN / "qna_vit_mini.npz")["meta"]))
    return meta["cfg"], read_train_state(GOLDEN / "qna_vit_mini.ckpt")


class Keyed:
    """Has keys and items but is no Mapping, as the ConfigDict of the official code."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries = entries

    def keys(self):
        return self.entries.keys()

    def __getitem__(self, name: str) -> Any:
        return self.entries[name]


def same_state(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_configuration_is_a_mapping_its_json_or_an_array_of_it(mini) -> None:
    config, params, stored = layer_case()
    assert stored.shape == ()
    layer = load_qna_layer(config, params)
    for form in (json.dumps(config), stored, Keyed(config)):
        assert same_state(load_qna_layer(form, params), layer)
    config, params = mini
    network = load_qna_vit(config, params, 11)
    for form in (json.dumps(config, indent=1), np.array(json.dumps(config)), Keyed(config)):
        assert same_state(load_qna_vit(form, params, 11), network)


@pytest.mark.parametrize("config", [None, 3, [1, 2], '{"heads": ', np.arange(3)])
def test_what_is_no_mapping(config) -> None:
    with pytest.raises(ValueError, match=r"^config=.* must be a mapping or its JSON$"):
        load_qna_layer(config, {})
    with pytest.raises(ValueError, match=r"^config=.* must be a mapping or its JSON$"):
        load_qna_vit(config, {}, 11)


def test_numpy_scalars_and_arrays_are_numbers_strings_and_lists(mini) -> None:
    config, params, _ = layer_case()
    numpy_config = {name: np.asarray(value)[()] for name, value in config.items()}
    assert {type(value) for value in numpy_config.values()} == {np.int64, np.bool_, np.str_}
    assert same_state(load_qna_layer(numpy_config, params), load_qna_layer(config, params))
    config, params = mini
    changed = {
        "drop_path": np.float32(0.25),
        "mlp_ratio": np.float64(4),
        "qna_heads": np.array(config["qna_heads"]),
        "qna_normalize_q": [np.bool_(True)] * 4,
        "lsa_window": tuple(np.int16(size) for size in config["lsa_window"]),
    }
    network = load_qna_vit(config | changed, params, 11)
    assert same_state(network, load_qna_vit(config, params, 11))


def test_precision_is_read_for_nothing() -> None:
    config, params, _ = layer_case()
    load_qna_layer(config | {"precision": None, "out_features": None}, params)
    with pytest.raises(ValueError, match="precision='highest' must be None"):
        load_qna_layer(config | {"precision": "highest"}, params)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("kernel_size", value) for value in ("3", 3.0, True, None, [3, 3], 0)),
        *((name, True) for name in ("C", "features", "heads", "stride", "padding", "n_queries")),
        ("padding", -1),
        ("heads", np.float32(4)),
        ("out_features", 0),
        ("out_features", "16"),
        ("use_bias", "no"),
        ("use_bias", None),
        ("normalize_q", 1),
        ("scale_rpe_bias", 0.0),
        ("qna_normalize_stop_grads", 0),
        ("pos_embedding_type", "contextual_pos"),
        ("pos_embedding_type", None),
        ("attn_scale", np.array(["normal", "ones"])),
        ("attn_scale", torch.ones(2)),
        ("attn_scale", {"normal": 1}),
    ],
)
def test_wrong_values_of_layer_options_are_named(name, value) -> None:
    config, params, _ = layer_case()
    with pytest.raises(ValueError, match=rf"^{name}=.* must be ") as caught:
        load_qna_layer(config | {name: value}, params)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("qna_receptive_field", value) for value in (3, "3333", None, {0: 3}, [3, 3, 3, True])),
        *(("qna_receptive_field", [3, 3, 3, last]) for last in (2, -1, 3.0)),
        *(("lsa_layers", value) for value in ([0, 0, 1.0, 1], [0, 0, -1, 1], np.ones((4, 4)))),
        ("qna_heads", [2, 4, 8, "16"]),
        ("qna_heads", [2, 4, 0, 16]),
        ("qna_normalize_q", True),
        ("qna_normalize_q", [1, 1, 1, 1]),
        ("lsa_window", [7, 7, 4, [2]]),
        ("base_dim", 16.0),
        ("n_stages", 0),
        ("n_stages", False),
        *(("drop_path", value) for value in ("0.1", None, True, 1, -0.1, float("nan"), 10**400)),
        ("drop_path", [0.1]),
        ("drop_path_downsample", "yes"),
        ("mlp_dropout", False),
        ("mlp_dropout", np.zeros(2)),
        ("mlp_ratio", "4"),
        ("layer_scale", np.ones(3)),
        ("qna_pos_embedding_type", "contextual_pos"),
        ("qna_pos_embedding_type", ["relative_pos"]),
        ("activation_fn", len),
    ],
)
def test_wrong_values_of_network_options_are_named(mini, name, value) -> None:
    config, params = mini
    with pytest.raises(ValueError, match=rf"^{name}=.* must be ") as caught:
        load_qna_vit(config | {name: value}, params, 11)
    assert "\n" not in str(caught.value)


def test_keys_that_are_no_strings_are_unknown_options(mini) -> None:
    config, params = mini
    with pytest.raises(ValueError, match="unknown option 3=4"):
        load_qna_vit(config | {3: 4, "colour": "blue"}, params, 11)


@pytest.mark.parametrize(
    ("downsample", "mlp"),
    [(True, np.linspace(0, 0.3, 8)), (False, [0, 0, 0.075, 0, 0.15, 0.225, 0, 0.3])],
)
def test_drop_path_grows_over_the_blocks_that_take_part(mini, downsample, mlp) -> None:
    config, params = mini
    changed = {"drop_path": 0.3, "drop_path_downsample": downsample}
    network = load_qna_vit(config | changed, params, 11)
    rates = [
        (block.mixer.stride, block.mix_drop.rate, block.mlp_drop.rate)
        for block in network.modules()
        if isinstance(block, Block)
    ]
    # QnA, stride 2 | QnA, stride 2 | window attention, QnA, stride 2 | window attention
    strides = [1, 2, 1, 2, 1, 1, 2, 1]
    mix = np.where(np.equal(strides, 2), 0, mlp)
    np.testing.assert_allclose(rates, np.stack([strides, mix, mlp], 1), atol=1e-12)
