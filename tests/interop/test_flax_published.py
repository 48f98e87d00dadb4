"""The published networks: stored logits of the official code, and which one a file holds."""

import numpy as np
import pytest
import torch

from attnlab.interop.flax import load_qna_vit, published_name
from attnlab.interop.flax_published import PUBLISHED
from tests.interop.official import nested, network_case
from tests.operators.contract import assert_close


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_network_reproduces_its_logits_and_is_recognised(name) -> None:
    meta, params, x, logits = network_case(name)
    assert meta["num_classes"] == 1000
    assert published_name(nested(params)) == name
    network = load_qna_vit(name, params)
    with torch.no_grad():
        out = network(torch.from_numpy(x).movedim(-1, 1))
    assert_close(out, torch.from_numpy(logits), 1e-5, "logits")


STEM = "StemBlock_0/conv_1x1/kernel"
TABLE = "QnAStage_0/QnA_Block_1/FusedKQnA_0/rpe_bias"


@pytest.mark.parametrize("lost", [STEM, TABLE])
def test_what_tells_networks_apart_must_be_there(lost) -> None:
    arrays = {STEM: np.zeros((4, 4, 3, 64)), TABLE: np.zeros((9, 16))}
    for wrong in ({}, {lost: np.float32(3)}):
        kept = {name: array for name, array in arrays.items() if name != lost}
        with pytest.raises(ValueError, match=f"missing arrays: {lost}, by which"):
            published_name(kept | wrong)


def test_other_networks_are_refused() -> None:
    _, params, _, _ = network_case("qna_vit_mini_qnav1")
    with pytest.raises(ValueError, match="width=16, window=3 and local_blocks=1 are those of no"):
        published_name(params)


def test_classes_are_counted_in_the_arrays() -> None:
    meta, params, _, _ = network_case("qna_vit_mini_qnav1")
    assert load_qna_vit(meta["cfg"], params).head.out_features == 11
    kernel = "ClassificationHead_0/head_logits/kernel"
    for wrong in ({}, {kernel: np.zeros(512)}, {kernel: np.float32(1)}):
        rest = {name: array for name, array in params.items() if name != kernel}
        with pytest.raises(ValueError, match=f"missing arrays: {kernel}"):
            load_qna_vit(meta["cfg"], rest | wrong)
