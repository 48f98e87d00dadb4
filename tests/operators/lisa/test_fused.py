"""The fused kernels, in Triton's interpreter, are the sums over all pairs, and their gradients."""

import pytest
import torch
import triton
from torch import Tensor

from attnlab.operators.lisa import fused
from attnlab.operators.lisa.blocked import Inputs
from tests.operators.compiled_kernels import run_compiled
from tests.operators.interpreter import multiply_bfloat16, speed_up
from tests.operators.lisa.dense_problems import Problem, cotangent, problem, worst

GEOMETRIES = [
    ((5, 3), 1),
    ((3, 7), 2),
    ((1, 11), 3),
    ((2, 3, 2), 1),
    ((3, 2, 5), 2),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    speed_up(monkeypatch)
    multiply_bfloat16(monkeypatch)
    monkeypatch.setattr(fused, "_TOKENS", 16)
    monkeypatch.setattr(fused, "_PROGRAMS", 1)


def on_device(function, *arguments):
    """Call with the tensors where the kernels run, and return the results to the CPU."""
    device = "cpu" if triton.knobs.runtime.interpret else "cuda"

    def moved(item):
        if isinstance(item, Inputs):
            return Inputs(*map(moved, item))
        return item.detach().to(device) if isinstance(item, Tensor) else item

    with torch.no_grad():
        results = function(*map(moved, arguments))
    results = results if isinstance(results, tuple) else (results,)
    return [result.cpu() for result in results if result is not None]


def draw(grid, stride, kind=torch.float32, **sizes) -> tuple[Problem, Problem]:
    """Return a problem, and the same in float64."""
    sizes = {"batch": 2, "heads": 2, "groups": 1, **sizes}
    given = problem(grid, stride, dtype=kind, **sizes)
    wide = (item.detach().double().requires_grad_() for item in given[:6])
    return given, Problem(*wide, *given[6:])


def mix_error(given: Problem, truth: Problem, *, masked: bool) -> float:
    inputs, exact = (each.inputs(masked=masked) for each in (given, truth))
    expected, known = truth.mixed(masked=masked), [item for item in exact if item is not None]
    grad = cotangent(expected).to(given.values.dtype)
    wanted = torch.autograd.grad(expected, known, grad.double())
    (out,) = on_device(fused.forward, inputs, given.grid, given.stride)
    grads = on_device(fused.backward, grad, inputs, given.grid, given.stride)
    return worst([out, *grads], [expected, *wanted])


def scores_error(given: Problem, truth: Problem) -> float:
    expected, place = truth.encoded(), given[6:]
    grad = cotangent(expected).to(given.values.dtype)
    wanted = torch.autograd.grad(expected, truth[:3], grad.double())
    scores, encoded = on_device(fused.encode, *given[:3], *place)
    grads = on_device(fused.encode_backward, grad, *given[:3], encoded, *place)
    return worst([scores, *grads], [expected, *wanted])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("grid", "stride"), GEOMETRIES)
def test_mix_on_any_geometry(grid, stride, masked) -> None:
    assert mix_error(*draw(grid, stride), masked=masked) <= 1e-6


@pytest.mark.parametrize(("grid", "stride"), GEOMETRIES)
def test_scores_on_any_geometry(grid, stride) -> None:
    assert scores_error(*draw(grid, stride)) <= 1e-6


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [(torch.float16, 2**-9), (torch.bfloat16, 2**-6)],  # bfloat16 is cut off by the interpreter
)
def test_half_precision_is_the_truth_rounded(kind, tolerance) -> None:
    given = draw((3, 5), 1, kind)
    assert mix_error(*given, masked=True) <= tolerance
    assert scores_error(*given) <= tolerance


def test_more_samples_channels_and_keys_than_a_program_takes() -> None:
    given = draw((3, 7), 1, batch=5, groups=2, rpes=1, value_dim=19, features=17)
    assert mix_error(*given, masked=False) <= 1e-6
    assert scores_error(*given) <= 1e-6


def test_shares_of_the_gradient_of_tables_are_added_up(monkeypatch) -> None:
    monkeypatch.setattr(fused, "_PROGRAMS", 2**12)  # one for each sample
    assert mix_error(*draw((2, 3), 1, batch=3), masked=False) <= 1e-6


def test_an_empty_batch_gives_tables_no_gradient() -> None:
    given = problem((2, 3), 1, batch=0, dtype=torch.float32)
    inputs = given.inputs(masked=True)
    (out,) = on_device(fused.forward, inputs, (2, 3), 1)
    assert out.shape == given.values.shape
    grads = on_device(fused.backward, out, inputs, (2, 3), 1)
    assert [grad.shape for grad in grads] == [item.shape for item in inputs]
    assert (grads[2] == 0).all()


def test_views_give_the_same_bits() -> None:
    given, _ = draw((2, 3), 1)
    inputs = given.inputs(masked=True)
    apart = Inputs(*(torch.stack([item, item], -1)[..., 0] for item in inputs))
    beside = Inputs(
        *(item.transpose(1, 2).contiguous().transpose(1, 2) for item in inputs[:2]), *inputs[2:]
    )
    results = []
    for same in (inputs, apart, beside):
        (out,) = on_device(fused.forward, same, (2, 3), 1)
        results.append([out, *on_device(fused.backward, torch.ones_like(out), same, (2, 3), 1)])
    for result in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], result, strict=True))


def test_kernels_compile_for_a_gpu(tmp_path) -> None:
    printed = run_compiled(tmp_path, "-m", "tests.operators.lisa.compile_fused").splitlines()
    assert {line.partition(" ")[2] for line in printed} == {"on tensor cores"}
    kernels = {line.partition(" ")[0] for line in printed}
    assert kernels == {"mix_kernel", "query_kernel", "key_kernel", "table_kernel"}


def test_the_operator_imports_its_kernels_only_where_they_run(tmp_path) -> None:
    code = (
        "import sys, attnlab.operators.lisa; print('attnlab.operators.lisa.fused' in sys.modules)"
    )
    assert run_compiled(tmp_path, "-c", code).strip() == "False"
