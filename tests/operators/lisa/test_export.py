"""LiSA leaves PyTorch's eager mode: compiled, exported, and in ONNX, with the same numbers."""

import inspect
from functools import partial

import jaxtyping
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from attnlab.operators.lisa import LiSA, spectral
from attnlab.operators.lisa.trilinear import Lattice
from tests.operators.contract import DIM, assert_close, build, gradients

GRID = (7, 5)
BATCH = {"x": {0: torch.export.Dim.DYNAMIC}}
OPERATORS = torch.ops.attnlab
OPTIONS = {
    "none": {"kernel": "elu", "key_groups": 3, "activation": "tanh"},
    "fft": {"activation": "softmax"},
    "circular": {"variant": "mask", "key_dim": 3},
    "truncated": {"kernel": "l2"},
    "split": {},
    "low_rank": {"rank": 1, "num_rpes": 2},
}


@pytest.fixture(autouse=True)
def _no_shape_checks(monkeypatch) -> None:
    """A traced size is a `torch.SymInt`, which the checks of the test run take for a mistake."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for name in ("out", "axes"):  # even disabled, the checks of properties cannot be compiled
        plain = inspect.unwrap(getattr(Lattice, name).fget)
        monkeypatch.setattr(Lattice, name, property(plain))


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> None:
    torch.compiler.reset()  # layers share the limit on how often one function is compiled


def layer(approximation: str, grid: tuple[int, ...] = GRID, **options) -> nn.Module:
    make = partial(LiSA, approximation=approximation, **OPTIONS[approximation], **options)
    return build(make, grid, 2).float()


def image(batch: int, grid: tuple[int, ...] = GRID) -> Tensor:
    return torch.randn(batch, *grid, DIM, generator=torch.Generator().manual_seed(53))


def assert_same(actual, expected, tolerance: float = 5e-6) -> None:
    """Compare what `gradients` returned."""
    assert_close(actual[0], expected[0], tolerance, "output")
    for name, grad in expected[1].items():
        assert_close(actual[1][name], grad, tolerance, f"d{name}")


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("learns", "dtype"), [(True, torch.float32), (False, torch.bfloat16)])
def test_operators_are_registered_as_pytorch_wants(learns, keep, dtype) -> None:
    lattice, queries = spectral.lattice((5, 3), 2), 6
    geometry = ([*lattice.grid], [*lattice.buffer], lattice.stride)

    def draw(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape).to(dtype).requires_grad_(learns)

    scores, tokens = draw(2, 1, 3, queries, 4), draw(2, 1, 3, queries, 5)
    values, spectra = draw(2, 1, 15, 5), draw(1, 4, *lattice.buffer, 2, dtype=torch.float32)
    given = (values, spectra, *geometry)
    torch.library.opcheck(OPERATORS.lisa_compose.default, (scores, *given, keep))
    torch.library.opcheck(OPERATORS.lisa_encode.default, (tokens, *given, keep))
    with torch.no_grad():
        _, kept = OPERATORS.lisa_compose(scores, *given, keep)
        saved = [tensor.detach() for tensor in (scores, tokens, values, spectra, kept)]
    torch.library.opcheck(OPERATORS.lisa_derivatives.default, (*saved, *geometry, keep))
    torch.library.opcheck(OPERATORS.lisa_derivatives.default, (*saved, *geometry, not keep))


@pytest.mark.parametrize("periodic", [True, False])
def test_transform_of_tables_is_registered_as_pytorch_wants(periodic: bool) -> None:
    tables = torch.randn(2, 3, *((5, 3) if periodic else (9, 5)), requires_grad=True)
    buffer = [5, 3] if periodic else [10, 6]
    torch.library.opcheck(OPERATORS.lisa_spectra.default, (tables, buffer, periodic, 0.5))


@pytest.mark.parametrize("approximation", [*OPTIONS])
def test_compiles_without_a_graph_break_and_trains(approximation: str) -> None:
    mixer = layer(approximation)
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    assert_same(gradients(compiled, mixer, image(2)), gradients(mixer, mixer, image(2)))


def test_compiles_where_nothing_is_kept_for_the_backward(monkeypatch) -> None:
    monkeypatch.setattr(spectral, "KEPT_BYTES", 0)
    mixer = layer("fft")
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    assert_same(gradients(compiled, mixer, image(2)), gradients(mixer, mixer, image(2)))


@pytest.mark.parametrize("approximation", ["none", "fft"])
def test_is_compiled_once_for_all_batches_of_a_grid(approximation: str) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    mixer = layer(approximation)
    compiled = torch.compile(mixer, fullgraph=True, backend=count, dynamic=True)
    with torch.no_grad():
        for batch in (2, 3, 7):
            assert_close(compiled(image(batch)), mixer(image(batch)), 1e-6, "compiled")
        assert len(graphs) == 1
        other = image(2, (11, 6))
        assert_close(compiled(other), mixer(other), 1e-6, "on another grid")
    assert len(graphs) == 2


@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # inductor imports it
def test_inductor_gives_the_same_numbers() -> None:
    mixer = layer("fft")
    compiled = torch.compile(mixer, fullgraph=True)
    with torch.no_grad():
        assert_close(compiled(image(2)), mixer(image(2)), 5e-6, "inductor")


@pytest.mark.parametrize("approximation", ["none", "fft"])
def test_compiled_in_mixed_precision_and_for_inference(approximation: str) -> None:
    mixer = layer(approximation)
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        expected, actual = (gradients(f, mixer, image(2)) for f in (mixer, compiled))
    assert actual[0].dtype == torch.bfloat16
    assert_same(actual, expected, 0.02)
    with torch.inference_mode():
        expected = mixer(image(2))
        assert_close(compiled(image(2)), expected, 1e-6, "inference mode")
        with torch.no_grad():
            mixer.composing.mul_(3)  # remembered spectra must not be those of before
        changed = mixer(image(2))
        assert (changed - expected).abs().max() > 0.1
        assert_close(compiled(image(2)), changed, 1e-6, "changed")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("approximation", ["none", "fft"])
def test_exported_program_takes_any_batch(approximation: str, strict: bool) -> None:
    mixer = layer(approximation)
    program = torch.export.export(mixer, (image(2),), dynamic_shapes=BATCH, strict=strict)
    assert_close(program.module()(image(3)), mixer(image(3)), 1e-6, "exported")
    ours = [node for node in program.graph.nodes if "attnlab" in str(node.target)]
    # Transforms are operators of ours, which keep nothing for a backward; dense sums need none.
    assert len(ours) == (4 if approximation == "fft" else 0)
    assert [node.args[-1] for node in ours if len(node.args) == 7] == [False] * (len(ours) // 2)


def test_exported_program_can_be_trained() -> None:
    mixer = layer("fft")
    program = torch.export.export(mixer, (image(2),)).module()
    expected = gradients(mixer, mixer, image(2))
    assert_same(gradients(program, program, image(2)), expected)


class Layers(nn.Module):
    """Layers side by side: one export of many costs less than many exports."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer in self.layers.values())


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # from torch.onnx itself
def test_onnxruntime_gives_the_same_numbers_where_transforms_did(tmp_path) -> None:
    layers = {name: layer(name) for name in ("circular", "truncated", "split")}
    layers["resized"] = layer("fft", grid=(5, 4))
    model = Layers(layers).eval()
    program = torch.onnx.export(
        model, (image(2),), dynamo=True, verbose=False, dynamic_shapes=BATCH
    )
    program.save(tmp_path / "lisa.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "lisa.onnx")
    found = session.run(None, {session.get_inputs()[0].name: image(3).numpy()})
    for name, actual, expected in zip(layers, found, model(image(3)), strict=True):
        assert_close(torch.from_numpy(actual), expected, 2e-6, name)
