"""The official classification heads: outputs, gradients, checkpoints, and telling them apart."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from attnlab.interop.flax import load_qna_vit
from attnlab.interop.flax_arrays import fill, head_slots
from attnlab.tasks.heads import MeanPool, QnAMeanPool, QnAPool
from tests.interop.official import GOLDEN, Arrays, network_case
from tests.operators.contract import assert_close

POOLS = {"qnav1": QnAPool, "qnav2": QnAMeanPool}
NAMES = {"qnav1": "qna", "qnav2": "qna+mean"}


@pytest.mark.parametrize("kind", POOLS)
def test_official_head_in_output_and_every_gradient(kind) -> None:
    arrays = np.load(GOLDEN / f"qna_head_{kind}.npz")
    config = json.loads(str(arrays["config"]))
    batch, rows, columns, dim = arrays["x"].shape
    norm = nn.LayerNorm(dim, eps=1e-6)
    pool = POOLS[kind](dim, (rows, columns), heads=config["num_heads"])
    head = nn.Linear(dim, config["num_classes"])
    slots = head_slots(norm, pool, head)
    fill(slots, {key[6:]: arrays[key] for key in arrays if key.startswith("param/")})

    x = torch.from_numpy(arrays["x"]).requires_grad_()
    out = head(pool(norm(x)))
    out.backward(torch.from_numpy(arrays["g"]))
    assert out.shape == (batch, config["num_classes"])
    assert_close(out, torch.from_numpy(arrays["out"]), 2e-6, "output")
    assert_close(x.grad, torch.from_numpy(arrays["grad/x"]), 2e-6, "input")
    for official, slot in slots.items():
        expected = arrays[f"grad/param/{official}"]
        expected = expected if slot.axes is None else expected.transpose(slot.axes)
        grad = torch.from_numpy(expected.copy()).view(slot.parameter.shape)
        assert_close(slot.parameter.grad, grad, 2e-6, official)
    assert len(slots) == sum(len(list(module.parameters())) for module in (norm, pool, head))


@pytest.mark.parametrize("kind", POOLS)
def test_network_with_an_official_head_reproduces_its_logits(kind) -> None:
    meta, params, x, logits = network_case(f"qna_vit_mini_{kind}")
    assert meta["cfg"]["classification_head_type"] == kind
    network = load_qna_vit(meta["cfg"], params)
    images = torch.from_numpy(x).movedim(-1, 1)
    assert_close(network(images), torch.from_numpy(logits), 5e-6, "logits")
    # The other head has the same arrays and is another function.
    (other,) = set(NAMES.values()) - {NAMES[kind]}
    assert (
        load_qna_vit(meta["cfg"], params, head=other)(images) - network(images)
    ).abs().max() > 0.1


def published_head(width: int, heads: int, side: int = 7) -> Arrays:
    """Return the arrays of a QnA head, all ones."""
    shapes = {
        "query": (2, width),
        "Wk": (width, width),
        "to_v/kernel": (width, width),
        "to_out/kernel": (width, width),
        "attn_scale_weights": (1, 1, side**2, 2 * heads),
        "rpe_bias": (side**2, 2 * heads),
    }
    prefix = "ClassificationHead_0/FusedKQnA_0"
    return {f"{prefix}/{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}


def test_head_of_a_published_network_must_be_named_where_arrays_do_not_tell() -> None:
    _, params, _, _ = network_case("qna_vit_tiny_7x7")
    both = params | published_head(512, 64)
    assert type(load_qna_vit("qna_vit_tiny_7x7", params).pool) is MeanPool
    assert type(load_qna_vit("qna_vit_tiny_7x7", both, head="qna+mean").pool) is QnAMeanPool
    with pytest.raises(ValueError, match=r"head='qna' and head='qna\+mean': one must be chosen"):
        load_qna_vit("qna_vit_tiny_7x7", both)
    with pytest.raises(ValueError, match=r"head='mean' must be one of gap, qna, qna\+mean"):
        load_qna_vit("qna_vit_tiny_7x7", params, head="mean")


def test_a_head_that_is_not_that_of_the_arrays_is_refused() -> None:
    meta, params, _, _ = network_case("qna_vit_mini_qnav1")
    with pytest.raises(ValueError, match=r"surplus arrays: \S*FusedKQnA_0/Wk, .* and 3 more"):
        load_qna_vit(meta["cfg"], params, head="gap")
    gap = {
        name: array
        for name, array in params.items()
        if not name.startswith("ClassificationHead_0/FusedKQnA_0")
    }
    with pytest.raises(ValueError, match="missing arrays: ClassificationHead_0/FusedKQnA_0/Wk"):
        load_qna_vit(meta["cfg"], gap, head="qna")


def test_heads_are_as_many_as_the_last_stage_is_told_to_have() -> None:
    meta, params, _, _ = network_case("qna_vit_mini_qnav1")
    assert meta["cfg"]["qna_heads"][-1] == 16
    assert load_qna_vit(meta["cfg"], params).pool.heads == 16
    changed = meta["cfg"] | {"qna_heads": [2, 4, 8, 32]}
    with pytest.raises(ValueError, match=r"attn_scale_weights has shape \(1, 1, 4, 32\), expected"):
        load_qna_vit(changed, params)
