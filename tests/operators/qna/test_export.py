"""QnA leaves PyTorch: compiled, exported, and in ONNX with the same numbers."""

import functools

import jaxtyping
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from attnlab.operators.qna import QnA
from attnlab.operators.qna.window import Window
from tests.operators.contract import DIM, assert_close, build
from tests.operators.qna.problems import window_problem

GRID = (7, 5)
DYNAMIC = {"x": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}


@pytest.fixture(autouse=True)
def _no_shape_checks(monkeypatch) -> None:
    """A traced size is a `torch.SymInt`, which the checks of the test run take for a mistake."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def layer(**options) -> nn.Module:
    return build(functools.partial(QnA, **options), GRID, 2).float()


def image(batch: int, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(53)
    return torch.randn(batch, rows, GRID[1], DIM, generator=generator)


@pytest.mark.parametrize("options", [{}, {"stable": True}, {"dropout": 0.5}])
def test_operator_is_registered_as_pytorch_wants(options) -> None:
    window = Window.build(2, (4, 3), 2)
    problem = window_problem(GRID, window)
    seed = torch.tensor(5) if options.get("dropout") else None
    choices = (options.get("stable", False), options.get("dropout", 0.0))
    torch.library.opcheck(
        torch.ops.attnlab.qna_attend.default, (*problem, seed, window.flat, *choices, True)
    )
    inference = [tensor.detach() for tensor in problem]
    torch.library.opcheck(
        torch.ops.attnlab.qna_attend.default, (*inference, seed, window.flat, *choices, False)
    )


def test_compiles_without_a_graph_break_and_trains() -> None:
    mixer, x = layer(kernel_size=5), image(2, 7)
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager", dynamic=True)
    assert_close(compiled(x), mixer(x), 1e-6, "compiled")
    assert_close(compiled(image(3, 11)), mixer(image(3, 11)), 1e-6, "another size")
    compiled(x).square().sum().backward()
    grads = [parameter.grad.clone() for parameter in mixer.parameters()]
    mixer.zero_grad()
    mixer(x).square().sum().backward()
    for grad, parameter in zip(grads, mixer.parameters(), strict=True):
        assert_close(grad, parameter.grad, 1e-6, "gradient")


def test_exports_to_pytorch_s_own_operators() -> None:
    mixer = layer(kernel_size=5)
    program = torch.export.export(mixer, (image(2, 7),), dynamic_shapes=DYNAMIC)
    assert not [node for node in program.graph.nodes if "attnlab" in str(node.target)]
    other = image(3, 11)
    assert_close(program.module()(other), mixer(other), 1e-6, "exported")


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # from torch.onnx itself
def test_onnxruntime_gives_the_same_numbers(tmp_path) -> None:
    mixer = layer(kernel_size=(4, 3), dilation=(1, 2))
    program = torch.onnx.export(
        mixer, (image(2, 7),), dynamo=True, verbose=False, dynamic_shapes=DYNAMIC
    )
    program.save(tmp_path / "qna.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "qna.onnx")
    other = image(3, 11)
    other[0] *= 30  # scores that have to be shifted
    (found,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    assert_close(torch.from_numpy(found), mixer(other), 2e-6, "onnxruntime")
