"""Official QnA layers, networks and checkpoints give their stored outputs; bad ones are refused."""

import json
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from torch import Tensor

from attnlab.interop.flax import (
    BatchScaledPositions,
    load_qna_layer,
    load_qna_vit,
    read_train_state,
)
from attnlab.interop.flax_arrays import qna_slots
from attnlab.operators.qna import QnA
from tests.interop.official import GOLDEN, nested, write_train_state
from tests.operators.contract import assert_close

LAYERS = sorted(path.stem for path in GOLDEN.glob("qna_layer_*.npz"))
CHECKPOINT = GOLDEN / "qna_vit_mini.ckpt"


def layer_case(name: str = "qna_layer_k3") -> tuple[Any, dict[str, Any], dict[str, np.ndarray]]:
    arrays = np.load(GOLDEN / f"{name}.npz")
    params = {key.removeprefix("param/"): arrays[key] for key in arrays if key.startswith("param/")}
    return arrays, json.loads(str(arrays["config"])), params


def images_first(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x).movedim(-1, 1)


@pytest.fixture(scope="module")
def mini() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    meta = json.loads(str(np.load(GOLDEN / "qna_vit_mini.npz")["meta"]))
    return meta["cfg"], read_train_state(CHECKPOINT)


def test_all_stored_layers_are_found() -> None:
    assert len(LAYERS) == 14


@pytest.mark.parametrize("name", LAYERS)
def test_official_layer_in_output_and_every_gradient(name) -> None:
    arrays, config, params = layer_case(name)
    module = load_qna_layer(config, params)
    x = torch.from_numpy(arrays["x"]).requires_grad_()
    out = module(x)
    out.backward(torch.from_numpy(arrays["g"]))
    assert_close(out, torch.from_numpy(arrays["out"]), 2e-6, "output")
    assert_close(x.grad, torch.from_numpy(arrays["grad/x"]), 2e-6, "input")
    layer = module.network if isinstance(module, BatchScaledPositions) else module
    assert isinstance(layer, QnA)
    compared = 0
    for official, slot in qna_slots(layer).items():
        expected = arrays[f"grad/param/{official}"]
        if slot.parameter is None:
            assert abs(expected).max() < 1e-5  # the key bias, which cancels
            continue
        if slot.axes is not None:
            expected = expected.transpose(slot.axes)
        if config.get("scale_rpe_bias") and official == "rpe_bias":
            expected = expected * (config["features"] / config["heads"]) ** 0.5
        grad = torch.from_numpy(expected.copy()).view(slot.parameter.shape)
        assert_close(slot.parameter.grad, grad, 2e-6, official)
        compared += 1
    assert compared == len(list(layer.parameters()))


def test_mini_checkpoint_reproduces_its_logits(mini) -> None:
    config, params = mini
    arrays = np.load(GOLDEN / "qna_vit_mini.npz")
    network = load_qna_vit(config, params, 11)
    logits = network(images_first(arrays["x"]))
    assert_close(logits, torch.from_numpy(arrays["logits"]), 5e-6, "logits")


@pytest.mark.parametrize("scale", ["normal", "posneg", "avg"])
def test_loading_fills_every_parameter_and_draws_no_random_number(mini, scale) -> None:
    config, params = mini
    if scale != "normal":
        params = {name: a for name, a in params.items() if "attn_scale" not in name}
    state = torch.get_rng_state()
    network = load_qna_vit(config | {"qna_attention_scale": scale}, params, 11)
    assert torch.equal(torch.get_rng_state(), state)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == sum(array.size for array in params.values())
    constants = {"posneg": {1.0, -1.0}, "avg": {0.5}, "normal": set()}
    buffers = [m.scale for m in network.modules() if isinstance(m, QnA) and scale != "normal"]
    assert {value for buffer in buffers for value in buffer.flatten().tolist()} == constants[scale]


def test_nested_parameters_and_other_image_sizes(mini) -> None:
    config, params = mini
    images = torch.randn(2, 3, 37, 50, generator=torch.Generator().manual_seed(1))
    logits = load_qna_vit(config, nested(params), 11)(images)
    assert torch.equal(logits, load_qna_vit(config, params, 11)(images))


def test_official_absolute_position_depends_on_the_batch_size() -> None:
    arrays, config, params = layer_case("qna_layer_absolute")
    module = load_qna_layer(config, params)
    x = torch.from_numpy(arrays["x"])
    tripled = params | {"absolute_pos_embedding": 3 * params["absolute_pos_embedding"]}
    alone = load_qna_layer(config, tripled)(x[:1])
    assert_close(alone, torch.from_numpy(arrays["out"][:1]), 2e-6, "one image")
    assert not torch.allclose(module(x[:1]), module(x)[:1], atol=1e-3)


def test_absolute_position_in_a_network(mini) -> None:
    config, params = mini
    changed = {}
    for name, array in params.items():
        if name.endswith("FusedKQnA_0/rpe_bias"):
            query = params[name.replace("rpe_bias", "query")]
            rng = np.random.default_rng(3)
            shape = (array.shape[0], *query.shape)
            embedding = rng.standard_normal(shape).astype(np.float32)
            changed[name.replace("rpe_bias", "absolute_pos_embedding")] = embedding
        else:
            changed[name] = array
    network = load_qna_vit(config | {"qna_pos_embedding_type": "absolute_pos"}, changed, 11)
    assert isinstance(network, BatchScaledPositions)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain = network.network
    with torch.no_grad():
        both, inner = network(images), plain(images)
        for name, parameter in plain.named_parameters():
            if name.endswith("position_embedding"):
                parameter.mul_(2)
        assert_close(both, plain(images), 1e-6, "doubled embeddings")
    assert not torch.allclose(both, inner, atol=1e-3)


def test_networks_come_in_evaluation_mode(mini) -> None:
    config, params = mini
    network = load_qna_vit(config | {"drop_path": 0.3}, params, 11)
    assert not network.training
    rates = [module.rate for module in network.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pos_embedding_type": "contextual_pos"}, "pos_embedding_type='contextual_pos'"),
        ({"attn_scale": "softmax"}, "attn_scale='softmax'"),
        ({"qna_normalize_stop_grads": True}, "qna_normalize_stop_grads=True"),
        ({"kernel_size": [3, 3]}, r"kernel_size=\[3, 3\]"),
        ({"dilation": 2}, "dilation=2"),
        ({"padding": 3}, "padding=3"),
        ({"attn_scale": "posneg", "n_queries": 1, "heads": 1}, "columns=1"),
        ({"features": 12}, r"query has shape \(2, 16\), expected \(2, 12\)"),
    ],
)
def test_layer_refuses_options(changed, message) -> None:
    _, config, params = layer_case()
    if changed.get("attn_scale") == "posneg":
        del params["attn_scale_weights"]
    with pytest.raises(ValueError, match=message):
        load_qna_layer(config | changed, params)


def test_layer_refuses_a_missing_option() -> None:
    _, config, params = layer_case()
    del config["heads"]
    with pytest.raises(ValueError, match="heads is missing"):
        load_qna_layer(config, params)


def test_arrays_missing_surplus_and_mis_shaped_are_named() -> None:
    _, config, params = layer_case()
    with pytest.raises(ValueError, match="surplus arrays: Wk_b"):
        load_qna_layer(config, params | {"Wk_b": np.zeros((4, 4))})
    with pytest.raises(ValueError, match=r"rpe_bias has shape \(8, 9\), expected \(9, 8\)"):
        load_qna_layer(config, params | {"rpe_bias": params["rpe_bias"].T})
    del params["to_v/kernel"]
    with pytest.raises(ValueError, match="missing arrays: to_v/kernel"):
        load_qna_layer(config, params)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classification_head_type": "qnav3"}, "classification_head_type='qnav3'"),
        ({"classification_head_type": "qnav1"}, "missing arrays: .*Head_0/FusedKQnA_0/Wk"),
        ({"stem_type": "resnet"}, "stem_type='resnet'"),
        ({"layer_scale": 0.1}, "layer_scale=0.1"),
        ({"lsa_pos_embedding_type": "none"}, "lsa_pos_embedding_type='none'"),
        ({"qna_attention_dropout": 0.1}, "qna_attention_dropout=0.1"),
        ({"qna_heads": [2, 4]}, "qna_heads"),
        ({"qna_receptive_field": [3, 4, 3, 3]}, r"qna_receptive_field=\[3, 4, 3, 3\]"),
        ({"qna_attention_scale": "ones"}, "missing arrays: .*attn_scale_pos"),
        ({"lsa_layers": [0, 0, 2, 1]}, "missing arrays: LSAStage_2/MSA_Block_2"),
        ({"lsa_window": [7, 7, 3, 2]}, "LSAStage_2.*rpe_bias has shape"),
        ({"colour": "blue"}, "colour='blue'"),
    ],
)
def test_network_refuses_options(mini, changed, message) -> None:
    config, params = mini
    with pytest.raises(ValueError, match=message):
        load_qna_vit(config | changed, params, 11)


def test_network_refuses_names_classes_and_missing_options(mini) -> None:
    config, params = mini
    with pytest.raises(ValueError, match="config='qna_vit_huge'"):
        load_qna_vit("qna_vit_huge", params, 11)
    with pytest.raises(ValueError, match="head_logits/kernel has shape"):
        load_qna_vit(config, params, 12)
    del (short := dict(config))["base_dim"]
    with pytest.raises(ValueError, match="base_dim is missing"):
        load_qna_vit(short, params, 11)


def test_train_state_holds_every_parameter_in_float32(mini) -> None:
    _, params = mini
    shapes = json.loads(str(np.load(GOLDEN / "qna_vit_mini.npz")["meta"]))["shapes"]
    assert {name: list(array.shape) for name, array in params.items()} == shapes
    assert {array.dtype for array in params.values()} == {np.dtype("float32")}


@pytest.mark.parametrize("kept", [0, 1, 1000, -1])
def test_truncated_train_state(tmp_path, kept) -> None:
    path = tmp_path / "cut.ckpt"
    path.write_bytes(CHECKPOINT.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"cut.ckpt is truncated or no Flax train state"):
        read_train_state(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 a zip archive, as torch saves", "no Flax train state"),
        (msgpack.packb([1, 2]), "no map named params"),
        (msgpack.packb({"step": 3}), "no map named params"),
        (msgpack.packb({"params": {"a": {"b": 3}}}), "a/b is no array"),
        (b"\x81\xa6params" + b"\x81\xa1a" * 2000 + b"\x80", "no Flax train state"),
        (msgpack.packb({"params": {"a": msgpack.ExtType(2, b"\x00")}}), "a is no array"),
        (msgpack.packb({"params": {"a": msgpack.ExtType(1, b"\x93")}}), "a is no array"),
        (
            msgpack.packb(
                {"params": {"a": msgpack.ExtType(1, msgpack.packb(((2,), "float32", b"1234")))}}
            ),
            "do not describe 4 bytes",
        ),
        (
            msgpack.packb(
                {"params": {"a": msgpack.ExtType(1, msgpack.packb(((1,), "object", b"12345678")))}}
            ),
            "dtype='object'",
        ),
    ],
)
def test_wrong_train_state(tmp_path, content, message) -> None:
    path = tmp_path / "wrong.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_train_state(path)
    assert "wrong.ckpt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_average_of_the_parameters_is_read_by_its_name(tmp_path) -> None:
    arrays = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3)}
    path = write_train_state(tmp_path / "averaged.ckpt", arrays, tree="ema_params")
    read = read_train_state(path, "ema_params")
    assert list(read) == ["a/b"]
    np.testing.assert_array_equal(read["a/b"], arrays["a/b"])
    with pytest.raises(ValueError, match="no map named params"):
        read_train_state(path)


def test_without_msgpack_the_way_to_install_it_is_named(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "msgpack", None)
    with pytest.raises(ImportError, match="pip install msgpack"):
        read_train_state(CHECKPOINT)
