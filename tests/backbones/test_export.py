"""Networks leave PyTorch whole: compiled, exported and in ONNX."""

import functools

import jaxtyping
import onnxruntime
import pytest
import torch
from torch import Tensor

from attnlab.backbones.lisa_vit import LisaViT
from attnlab.backbones.qna_vit import QnAViT
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.lisa import LiSA
from attnlab.operators.qna import QnA
from tests.operators.contract import assert_close, gradients


@pytest.fixture(autouse=True)
def _no_shape_checks(monkeypatch) -> None:
    """A traced size is a `torch.SymInt`, which the checks of the test run take for a mistake."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    torch.compiler.reset()


def lisa_network(approximation: str) -> LisaViT:
    torch.manual_seed(5)
    mixer = functools.partial(LiSA, approximation=approximation, num_rpes=2, key_dim=3)
    return LisaViT(mixer, (20, 12), patch_size=4, width=12, depth=2, heads=3)


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


def test_lisa_vit_compiles_without_a_graph_break_and_trains() -> None:
    model = lisa_network("none")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    out, grads = gradients(compiled, model, images())
    expected, expected_grads = gradients(model, model, images())
    assert_close(out, expected, 5e-6, "output")
    for name, grad in expected_grads.items():
        assert_close(grads[name], grad, 5e-6, f"d{name}")


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # from torch.onnx itself
def test_onnxruntime_gives_the_features_of_a_lisa_vit_by_transforms(tmp_path) -> None:
    model = lisa_network("fft").eval()
    program = torch.onnx.export(
        model,
        (images(),),
        dynamo=True,
        verbose=False,
        dynamic_shapes={"images": {0: torch.export.Dim.DYNAMIC}},
    )
    program.save(tmp_path / "lisa_vit.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "lisa_vit.onnx")
    batch = torch.cat([images(), images().flip(0, 2)[:1]])
    (found,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    assert torch.allclose(torch.from_numpy(found), model(batch), atol=1e-5)
