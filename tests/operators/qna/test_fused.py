"""The fused kernels, through Triton's interpreter, are the reference in output and gradients."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter

from attnlab.operators.qna import functional, fused
from attnlab.operators.qna.functional import project, scale_queries
from attnlab.operators.qna.window import Window
from tests.operators.compiled_kernels import run_compiled
from tests.operators.contract import assert_close
from tests.operators.qna import test_module
from tests.operators.qna.problems import errors, window_problem

TOKENS = fused._TOKENS
SMALL = [
    ((2, 5), Window.build(2, 1)),
    ((3, 5), Window.build(2, 3)),
    ((2, 3), Window.build(2, (3, 7))),  # larger than the grid
    ((5, 7), Window.build(2, 4, 3, 2)),
    ((3, 7), Window.build(2, (2, 3), padding=0)),
    ((2, 13), Window.build(2, (2, 3), dilation=3)),  # windows without any token
    ((7, 5), Window.build(2, (5, 2), (3, 2), dilation=(2, 1))),  # even: uneven padding
    ((5, 11), Window.build(2, (2, 3), (4, 6), dilation=(2, 4))),  # tokens that no window sees
    ((3, 2, 5), Window.build(3, (2, 1, 3), (2, 1, 1))),
    ((2, 3, 3), Window.build(3, 3, dilation=(1, 2, 1))),
]


def on_device(function, *arguments):
    """Call with the tensors where the kernels run, and return the results to the CPU."""
    device = "cpu" if triton.knobs.runtime.interpret else "cuda"
    moved = [item.to(device) if isinstance(item, Tensor) else item for item in arguments]
    return tuple(result.cpu() for result in function(*moved))


class Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, values, bias, scale, window):
        out, log_sum = on_device(fused.forward, scores, values, bias, scale, window)
        ctx.save_for_backward(scores, values, bias, scale, log_sum)
        ctx.window = window
        return out

    @staticmethod
    def backward(ctx, grad):
        return *on_device(fused.backward, grad, *ctx.saved_tensors, ctx.window), None


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Take two thirds off the interpreter's time.

    One token per lane, no checks of its own, and Triton's language, which it would replace by
    NumPy's anew at each call of a helper, replaced once.
    """
    monkeypatch.setattr(fused, "_TOKENS", (1, 1))
    options = interpreter.InterpreterOptions(sanitize_overflow=False)
    monkeypatch.setattr(interpreter.interpreter_builder, "options", options)
    replace = interpreter._patch_lang

    def replace_once(function):
        seen = [item for item in function.__globals__.values() if item is tl or item is tl.core]
        return replace(function) if any(tl.core.is_builtin(item.load) for item in seen) else None

    monkeypatch.setattr(interpreter, "_patch_lang", replace_once)


@pytest.mark.parametrize(("grid", "window"), SMALL)
def test_any_geometry(grid, window, monkeypatch) -> None:
    monkeypatch.setattr(fused, "_TOKENS", (2, 2))
    found = errors(Fused.apply, window_problem(grid, window, batch=1), window, torch.float32)
    assert max(found.values()) <= 2e-6, found


def test_default_plan_with_several_rows_to_a_program(monkeypatch) -> None:
    monkeypatch.setattr(fused, "_TOKENS", TOKENS)
    monkeypatch.setattr(fused, "_PROGRAMS", 2)
    window = Window.build(2, (2, 3))
    found = errors(Fused.apply, window_problem((3, 5), window), window, torch.float32)
    assert max(found.values()) <= 2e-6, found


@pytest.mark.parametrize(("queries", "head_dim"), [(1, 3), (3, 5)])
def test_any_number_of_queries_and_channels_in_float64(queries, head_dim) -> None:
    window = Window.build(2, (3, 2))
    problem = window_problem((3, 5), window, queries, head_dim=head_dim, batch=1)
    found = errors(Fused.apply, problem, window)
    assert max(found.values()) <= 1e-12, found


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [(torch.float16, 2**-11), (torch.bfloat16, 2**-7)],  # bfloat16 is cut off by the interpreter
)
def test_half_precision_is_the_truth_rounded(kind, tolerance) -> None:
    window = Window.build(2, 3)
    found = errors(Fused.apply, window_problem((3, 5), window, head_dim=5, batch=1), window, kind)
    assert max(found.values()) <= tolerance, found


def test_more_heads_than_a_program_takes() -> None:
    window = Window.build(2, 2)
    problem = window_problem((2, 3), window, queries=1, heads=11, head_dim=19, batch=1)
    assert fused.plan_rows(problem[1], (2, 3), 2, 1, 1, 99).block[2] < 11
    found = errors(Fused.apply, problem, window, torch.float32)
    assert max(found.values()) <= 2e-6, found


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_scores_in_the_hundreds(kind, monkeypatch) -> None:
    monkeypatch.setattr(fused, "_TOKENS", (2, 2))  # windows far below their lane's other one
    window = Window.build(2, 3)
    problem = window_problem((3, 7), window, batch=1)
    problem[0] = (300 * torch.tanh(2 * problem[0])).detach()
    found = errors(Fused.apply, problem, window, kind)
    assert found["out"] <= (2e-7 if kind == torch.float32 else 2**-11)
    assert max(found.values()) <= (3e-6 if kind == torch.float32 else 2e-3), found


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_two_regions(shift, monkeypatch) -> None:
    monkeypatch.setattr(fused, "_TOKENS", (2, 2))
    window = Window.build(2, 3)
    problem = window_problem((2, 13), window, batch=1)
    region = torch.where(torch.arange(13) < 7, 60.0, -60.0)[:, None, None]
    problem[0] = (problem[0].detach().round() / 8 + region + shift).detach()
    found = errors(Fused.apply, problem, window, torch.float32)
    assert max(found.values()) <= 2e-6, found


def test_a_bias_that_revives_a_token_lost_to_its_exponential() -> None:
    window = Window.build(2, (1, 3), (1, 2), padding=0)  # the middle of each is an odd token
    problem = window_problem((2, 7), window, batch=1)
    odd = (torch.arange(7) % 2)[:, None, None]
    problem[0] = (problem[0].detach().round() - 120 * odd).detach()
    problem[2] = (problem[2] + torch.tensor([0.0, 200.0, 0.0])[:, None, None]).detach()
    found = errors(Fused.apply, problem, window, torch.float32)
    assert max(found.values()) <= 1e-4, found  # sums of scores and biases are rounded at 200


def test_masked_tokens_and_empty_windows() -> None:
    window = Window.build(2, 3)
    problem = window_problem((5, 5), window, batch=1, masked=True)
    problem[0] = problem[0].detach().index_fill(1, torch.tensor([0, 1]), -math.inf)
    found = errors(Fused.apply, problem, window, torch.float32)
    assert max(found.values()) <= 2e-6, found
    inputs = [tensor.detach().float() for tensor in problem]
    out, log_sum = on_device(fused.forward, *inputs, window)
    empty = log_sum.isneginf()
    assert empty[:, 0].all()
    assert not empty.all()
    assert (out[:, 0] == 0).all()
    assert torch.isfinite(log_sum[~empty]).all()


def test_logarithms_of_sums() -> None:
    window = Window.build(2, (1, 2), padding=0)
    scores, values, bias, scale = window_problem((2, 3), window, batch=1)
    _, log_sum = on_device(fused.forward, scores, values, bias, scale, window)
    expected = torch.logaddexp(scores[:, :, :-1] + bias[0], scores[:, :, 1:] + bias[1])
    assert_close(log_sum, expected, 1e-12, "logarithms")


def views(scores: Tensor, values: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the same scores and values as they may lie in memory."""
    joint = torch.cat([scores.flatten(-2), values.flatten(-2)], -1)
    parts = torch.split(joint, [scores[0, 0, 0].numel(), values[0, 0, 0].numel()], -1)
    moved = (tensor.movedim((1, 2), (-2, -1)).contiguous() for tensor in (scores, values))
    return {
        "joint": tuple(map(torch.Tensor.view_as, parts, (scores, values))),
        "channels first": tuple(tensor.movedim((-2, -1), (1, 2)) for tensor in moved),
        "heads innermost": (scores, values.mT.contiguous().mT),
        "odd steps": (scores, F.pad(values, (0, 0, 0, 0, 0, 1))[:, :, :-1]),
    }


def test_views_give_the_same_bits() -> None:
    window = Window.build(2, (1, 2))
    problem = window_problem((1, 3), window, heads=2, head_dim=4)
    scores, values, *tables = [tensor.detach().float() for tensor in problem]
    results = []
    for same in [(scores, values), *views(scores, values).values()]:
        assert torch.equal(same[0], scores)
        out, log_sum = on_device(fused.forward, *same, *tables, window)
        given = (torch.ones_like(out), *same, *tables, log_sum, window)
        grads = on_device(fused.backward, *given)
        results.append((out, log_sum, *grads))
    for result in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], result, strict=True))


def test_one_scale_for_all_offsets() -> None:
    window = Window.build(2, (1, 3))
    problem = window_problem((2, 5), window)
    problem[3] = problem[3][:1].detach()
    found = errors(Fused.apply, problem, window, torch.float32)
    assert max(found.values()) <= 2e-6, found


def attend_fused(scores, values, bias, scale, seed, window, *choices) -> tuple[Tensor]:
    return (Fused.apply(scores, values, bias, scale, Window.of(window)),)


@pytest.mark.parametrize("case", ["k3", "k3_stride2_widen"])
def test_official_layer(case, monkeypatch) -> None:
    monkeypatch.setattr(functional, "qna_attend", attend_fused)
    test_module.test_official_layer_in_output_and_every_gradient(case, "fast")


def test_official_layer_of_a_wide_window() -> None:
    arrays = np.load(test_module.GOLDEN / "qna_layer_k7.npz")
    weights = {
        name: torch.from_numpy(arrays[f"param/{official}"])
        for name, official in test_module.OFFICIAL_NAMES.items()
    }
    x, query = torch.from_numpy(arrays["x"])[:1, :5], scale_queries(weights["query"], 4, True)
    scores, values = project(x, query, weights["key.weight"].T, weights["value.weight"].T)
    bias, scale = (weights[name].view(49, 2, 4) for name in ("position_bias", "scale"))
    out, _ = on_device(fused.forward, scores, values, bias, scale, Window.build(2, 7))
    expected = torch.from_numpy(arrays["out"])[:1, :2]  # of rows that see no other
    assert_close(out[:, :2].flatten(-2) @ weights["proj.weight"], expected, 2e-6, "output")


def test_a_program_is_a_warp_of_vectors_on_whole_rows(monkeypatch) -> None:
    monkeypatch.setattr(fused, "_TOKENS", TOKENS)
    tokens = torch.empty(256, 56, 56, 8, 8, dtype=torch.bfloat16, device="meta")
    plan = fused.plan_rows(tokens, (56, 56), 3, 2, 1, 4096)
    assert plan == fused.Plan(4096, 256 * 56, 7, 4096, (7, 4, 8, 8))  # two to a row of 56
    wide = fused.plan_rows(tokens, (56, 56), 13, 2, 1, 4096)
    assert wide.block[0] < 7, "too many sums for the registers"
    halved = fused.plan_rows(tokens, (56, 56), 3, 2, 3, 4096)
    assert halved.block[0] % 3 == 0, "a stride of 3 has three kinds of tokens"
    assert fused.plan_rows(tokens, (7, 7), 3, 2, 1, 4096).block[:2] == (7, 1)
    assert fused.plan_rows(tokens.float(), (56, 56), 3, 2, 1, 4096).block[1] == 2


def test_kernels_compile_for_a_gpu(tmp_path) -> None:
    printed = run_compiled(tmp_path, "-m", "tests.operators.qna.compile_fused").splitlines()
    assert printed == [
        f"{name} torch.{kind} loads vectors"
        for kind in ("float32", "float16", "bfloat16")
        for name in ("forward_kernel", "window_kernel", "token_kernel")
    ]


def test_the_operator_does_not_import_triton(tmp_path) -> None:
    code = "import sys, attnlab.operators.qna; print('triton' in sys.modules)"
    assert run_compiled(tmp_path, "-c", code).strip() == "False"
