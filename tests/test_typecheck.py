"""The shapes in signatures are checked while the tests run."""

import pytest
import torch
from jaxtyping import TypeCheckError

from attnlab.backbones.blocks import DropPath, Mlp
from attnlab.operators.qna.functional import scale_queries


def test_a_wrong_shape_is_an_error():
    with pytest.raises(TypeCheckError):
        scale_queries(torch.ones(3), heads=1, normalize=True)


def test_right_shapes_pass():
    assert DropPath(0.0)(Mlp(4)(torch.ones(2, 3, 4))).shape == (2, 3, 4)
