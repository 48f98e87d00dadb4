"""A QnA-ViT with both its operators leaves PyTorch whole: compiled, exported and in ONNX."""

import functools

import jaxtyping
import onnxruntime
import pytest
import torch
from torch import Tensor

from attnlab.backbones.qna_vit import QnAViT
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.qna import QnA


@pytest.fixture(autouse=True)
def _no_shape_checks(monkeypatch) -> None:
    """A traced size is a `torch.SymInt`, which the checks of the test run take for a mistake."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def network() -> QnAViT:
    torch.manual_seed(3)
    return QnAViT(
        QnA,
        functools.partial(WindowAttention, window_size=3),
        image_size=20,
        patch_size=2,
        width=8,
        depths=(1, 0),
        heads=(2, 4),
        local_depths=(0, 1),
        local_heads=(1, 2),
    ).eval()


def images() -> Tensor:
    return torch.randn(2, 3, 20, 14, generator=torch.Generator().manual_seed(59))


def test_compiles_without_a_graph_break() -> None:
    model = network()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(images()), model(images()), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # from torch.onnx itself
def test_onnxruntime_gives_the_same_features(tmp_path) -> None:
    model = network()
    program = torch.export.export(model, (images(),))
    assert torch.allclose(program.module()(images()), model(images()), atol=1e-5)
    torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "qna_vit.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "qna_vit.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: images().numpy()})
    assert torch.allclose(torch.from_numpy(found), model(images()), atol=1e-5)
