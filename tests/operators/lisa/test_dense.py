"""The dense form: the sums over all pairs in output and gradients, in blocks of bounded size."""

import functools

import jaxtyping
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from attnlab.operators.lisa import LiSA, blocked, spread
from attnlab.operators.lisa.dense_op import lisa_dense_mix, lisa_dense_scores
from tests.operators.contract import DIM, assert_close, build
from tests.operators.lisa.dense_problems import GEOMETRIES, Problem, cotangent, problem, worst

GRID = (7, 5)
CUTS = {"one row": (2**21, 2**25), "by rows": (0, 2**25), "cut": (700, 1), "samples": (1300, 3000)}


@pytest.fixture(params=CUTS.values(), ids=CUTS)
def cut(request, monkeypatch) -> None:
    """Cut the sums into blocks of few bytes."""
    monkeypatch.setattr(spread, "_BLOCK_BYTES", request.param[0])
    monkeypatch.setattr(spread, "_SPREAD_BYTES", request.param[1])


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("grid", "stride"), GEOMETRIES)
def test_mix_is_the_sum_over_all_pairs(grid, stride, masked: bool) -> None:
    given = problem(grid, stride)
    inputs, expected = given.inputs(masked=masked), given.mixed(masked=masked)
    features = [inputs.phi_q, inputs.phi_k]
    actual = lisa_dense_mix(*inputs[:3], *features, [*grid], stride)
    known = [item for item in inputs if item is not None]
    wanted, found = (torch.autograd.grad(y, known, cotangent(y)) for y in (expected, actual))
    assert worst([actual, *found], [expected, *wanted]) <= 1e-13


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize(("grid", "stride"), GEOMETRIES)
def test_scores_are_the_sum_over_all_pairs(grid, stride) -> None:
    given = problem(grid, stride)
    expected, (actual, _) = given.encoded(), lisa_dense_scores(*given[:3], [*grid], stride)
    wanted, found = (torch.autograd.grad(y, given[:3], cotangent(y)) for y in (expected, actual))
    assert worst([actual, *found], [expected, *wanted]) <= 1e-13


def test_no_array_is_larger_than_a_block_or_the_spread_tables(monkeypatch) -> None:
    monkeypatch.setattr(spread, "_BLOCK_BYTES", 2**13)
    monkeypatch.setattr(spread, "_SPREAD_BYTES", 2**16)
    given = problem((17, 13), 1, dtype=torch.float32)
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.untyped_storage().nbytes())
            return result

    inputs, place = given.inputs(masked=True), ((17, 13), 1)
    with torch.no_grad(), Largest():
        blocked.backward(blocked.forward(inputs, *place), inputs, *place)
        scores, encoded = blocked.encode(*given[:3], *place)
        blocked.encode_backward(scores, *given[:3], encoded, *place)
    most = max(item.numel() * 4 for item in (*given[:6], encoded))
    assert largest <= max(most, 2 * 2**16)  # padded while it is gathered
    assert 2 * largest < 4 * (17 * 13) ** 2  # one array of N x N


@pytest.mark.parametrize("masked", [False, True])
def test_operators_are_registered_as_pytorch_wants(masked: bool) -> None:
    given = problem(GRID, 2)
    inputs = given.inputs(masked=masked)
    torch.library.opcheck(torch.ops.attnlab.lisa_dense_mix.default, (*inputs, [*GRID], 2))
    torch.library.opcheck(torch.ops.attnlab.lisa_dense_scores.default, (*given[:3], [*GRID], 2))


def test_operations_are_counted() -> None:
    given = problem((5, 3), 1, batch=1)
    with FlopCounterMode(display=False) as counter:
        lisa_dense_mix(*given.inputs(masked=True), [5, 3], 1)
    assert counter.get_total_flops() == 2 * 4 * 15 * 15 * (3 + 7 + 5)
    with FlopCounterMode(display=False) as counter:
        lisa_dense_scores(*given[:3], [5, 3], 1)
    assert counter.get_total_flops() == 2 * 15 * 3 * (2 * 15 * 5 + 4 * 5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_the_truth_rounded(kind: torch.dtype) -> None:
    exact: Problem = problem(GRID, 1)
    rounded = Problem(*(item.detach().to(kind) for item in exact[:6]), *exact[6:])
    truth = Problem(*(item.double() for item in rounded[:6]), *exact[6:])
    out = lisa_dense_mix(*rounded.inputs(masked=True), [*GRID], 1)
    assert out.dtype == kind
    assert worst([out], [truth.mixed(masked=True)]) <= torch.finfo(kind).eps
    scores, _ = lisa_dense_scores(*rounded[:3], [*GRID], 1)
    assert worst([scores], [truth.encoded()]) <= torch.finfo(kind).eps


VARIANTS = [{"key_groups": 3}, {"variant": "mask", "activation": "softmax"}]


@pytest.fixture
def _no_shape_checks(monkeypatch) -> None:
    """A traced size is a `torch.SymInt`, which the checks of the test run take for a mistake."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def layer(**options) -> LiSA:
    return build(functools.partial(LiSA, approximation="none", **options), GRID).float()


def images(batch: int) -> Tensor:
    return torch.randn(batch, *GRID, DIM, generator=torch.Generator().manual_seed(53))


@pytest.mark.usefixtures("_no_shape_checks")
@pytest.mark.parametrize("options", VARIANTS)
def test_compiles_without_a_graph_break_and_trains(options) -> None:
    mixer = layer(**options)
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (2, 3):
        x = images(batch)
        assert_close(compiled(x), mixer(x), 1e-6, "compiled")
    compiled(x).square().sum().backward()
    grads = [parameter.grad.clone() for parameter in mixer.parameters()]
    mixer.zero_grad()
    mixer(x).square().sum().backward()
    for grad, parameter in zip(grads, mixer.parameters(), strict=True):
        assert_close(grad, parameter.grad, 1e-6, "gradient")


@pytest.mark.usefixtures("_no_shape_checks")
@pytest.mark.parametrize("options", VARIANTS)
def test_exports_to_pytorch_s_own_operators_and_onnx(options, tmp_path) -> None:
    mixer, x = layer(**options), images(2)
    dynamic = {"x": {0: torch.export.Dim.AUTO}}
    program = torch.export.export(mixer, (x,), dynamic_shapes=dynamic)
    assert not [node for node in program.graph.nodes if "attnlab" in str(node.target)]
    assert_close(program.module()(images(3)), mixer(images(3)), 1e-6, "exported")
    torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "lisa.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "lisa.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: images(3).numpy()})
    assert_close(torch.from_numpy(found), mixer(images(3)), 2e-6, "onnxruntime")
