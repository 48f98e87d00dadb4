"""The published networks: stored logits of the official code, and which one a file holds."""

import numpy as np
import pytest
import torch

from attnlab.interop.flax import load_qna_vit, published_name
from attnlab.interop.flax_published import PUBLISHED
from tests.interop.official import network_case
from tests.operators.contract import assert_close


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_network_reproduces_its_logits_and_is_recognised(name) -> None:
    meta, params, x, logits = network_case(name)
    assert meta["num_classes"] == 1000
    assert published_name(params) == name
    network = load_qna_vit(name, params)
    with torch.no_grad():
        out = network(torch.from_numpy(x).movedim(-1, 1))
    assert_close(out, torch.from_numpy(logits), 1e-5, "logits")


def test_a_network_is_recognised_in_spite_of_classes_heads_and_lost_arrays() -> None:
    _, params, _, _ = network_case("qna_vit_tiny")
    kept = {name: array for name, array in params.items() if "head_logits" not in name}
    kept |= {f"ClassificationHead_0/FusedKQnA_0/{name}": np.zeros(3) for name in ("query", "Wk")}
    del kept["StemBlock_0/conv_1x1/kernel"]
    assert published_name(kept) == "qna_vit_tiny"


def test_arrays_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="none of the 2 arrays is one of qna_vit_tiny, "):
        published_name({"conv": {"kernel": np.zeros((3, 3)), "bias": np.zeros(3)}})


def test_classes_are_counted_in_the_arrays() -> None:
    meta, params, _, _ = network_case("qna_vit_mini_qnav1")
    assert load_qna_vit(meta["cfg"], params).head.out_features == 11
    kernel = "ClassificationHead_0/head_logits/kernel"
    for wrong in ({}, {kernel: np.zeros(512)}, {kernel: np.float32(1)}):
        rest = {name: array for name, array in params.items() if name != kernel}
        with pytest.raises(ValueError, match=f"missing arrays: {kernel}"):
            load_qna_vit(meta["cfg"], rest | wrong)
