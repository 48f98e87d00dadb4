"""The choice between LiSA's exact forms: counts, predictions, and what is chosen where."""

import json
import math
import operator
from pathlib import Path

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from attnlab.operators.lisa import cost
from attnlab.operators.lisa.cost import Form, Sizes, cheapest

DTYPES = [torch.float32, torch.float64]
SMALL = Sizes((3, 5), 2, 5, heads=2, key_groups=1, key_dim=3, out_dim=10, variant="pattern")
HAND = {
    "none": {"pairs": 2.0, "products": 0.5, "tables": 3.0},
    "fft": {"butterflies": 0.1, "points": 7.0},
}


def chosen(
    side: int,
    rpes: int = 4,
    variant: str = "pattern",
    stride: int = 1,
    dtype: torch.dtype = torch.float32,
    device_kind: str = "cpu",
) -> Form:
    sizes = Sizes((side, side), stride, rpes, 3, 1, key_dim=16, out_dim=192, variant=variant)
    return cheapest(sizes, dtype, device_kind)


def test_counts_by_hand() -> None:
    # 15 keys, 2 x 3 queries; buffers of 6 x 10.
    assert cost.dense_work(SMALL) == {
        "pairs": 90 * 2, "products": 90 * (10 + 3 * 5), "tables": 90 * 2 * 5,
    }  # fmt: skip
    assert cost.dense_work(SMALL._replace(variant="mask")) == {
        "pairs": 90 * 2 * 3, "products": 90 * (10 + 3 * 2), "tables": 90 * 2 * 5,
    }  # fmt: skip
    assert cost.dense_work(SMALL._replace(key_groups=2))["products"] == 90 * (10 + 3 * 5 * 2)
    for variant, maps in (("pattern", 3 + 10), ("mask", 3 * 10)):
        assert cost.spectral_work(SMALL._replace(variant=variant)) == {
            "butterflies": maps * 13 * 60 * math.log2(60),
            "points": maps * 5 * 60,
        }


def test_prediction_from_known_coefficients() -> None:
    dense = 2.0 * 180 + 0.5 * 2250 + 3.0 * 900
    assert cost.seconds("none", SMALL, HAND) == pytest.approx(1e-9 * dense, rel=1e-12)
    fft = 0.1 * 13 * 13 * 60 * math.log2(60) + 7.0 * 3900
    assert cost.seconds("fft", SMALL, HAND) == pytest.approx(1e-9 * fft, rel=1e-12)


def test_the_lesser_prediction_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = 2.0 * 180 + 0.5 * 2250 + 3.0 * 900
    for tables, form in ((3899 / dense, "none"), (3901 / dense, "fft")):
        forms = {
            "none": {kind: tables * each for kind, each in HAND["none"].items()},
            "fft": {"butterflies": 0.0, "points": 1.0},
        }
        monkeypatch.setattr(cost, "COSTS", {"cpu": {torch.float32: forms}})
        assert cheapest(SMALL, torch.float32, "cpu") == form


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rpes", [1, 4, 8])
def test_dense_on_small_maps_and_fft_on_large_ones(dtype: torch.dtype, rpes: int) -> None:
    assert chosen(7, rpes, dtype=dtype) == "none"
    assert chosen(56, rpes, dtype=dtype) == "fft"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rpes", [1, 2, 4, 8, 16])
def test_once_fft_wins_it_keeps_winning(dtype: torch.dtype, rpes: int) -> None:
    # Along sides that are padded by about the same share.
    for sides in ((4, 8, 16, 32, 64, 128), (7, 14, 28, 56, 112), (5, 10, 20, 40, 80)):
        forms = [chosen(side, rpes, dtype=dtype) for side in sides]
        assert forms == sorted(forms, reverse=True)
        assert {*forms} == {"none", "fft"}


def test_tables_variant_and_stride_matter() -> None:
    few, many = ([chosen(side, rpes) for side in range(4, 64)] for rpes in (1, 16))
    assert few.count("none") < many.count("none")
    assert (chosen(56, variant="mask"), chosen(56)) == ("none", "fft")
    # A quarter of the queries is a quarter of the dense form, but nearly all of the transforms.
    by_stride = [
        [chosen(n, stride=stride) for n in range(4, 64)].count("none") for stride in (1, 2)
    ]
    assert by_stride[0] < by_stride[1]


def test_an_unmeasured_device_or_type_takes_the_nearest() -> None:
    single, double = ({form: {"pairs": each} for form in ("none", "fft")} for each in (1.0, 2.0))
    costs = {"cpu": {torch.float32: single, torch.float64: double}, "cuda": {torch.float32: HAND}}
    assert cost.nearest(costs, "cpu", torch.float64) is double
    assert cost.nearest(costs, "cpu", torch.bfloat16) is single
    assert cost.nearest(costs, "cuda", torch.float64) is HAND
    assert cost.nearest(costs, "xpu", torch.float64) is double
    assert chosen(7, dtype=torch.bfloat16, device_kind="meta") == "none"
    assert chosen(56, dtype=torch.float16, device_kind="mps") == "fft"


def test_coefficients_come_with_their_conditions() -> None:
    content = json.loads(Path(cost.__file__).with_name("costs.json").read_text())
    assert "cpu" in content
    for device, entry in content.items():
        assert entry["conditions"].keys() >= {"Command", "Hardware", "Threads", "Versions", "Date"}
        assert "attnlab.bench dispatch" in entry["conditions"]["Command"]
        assert entry["nanoseconds"].keys() >= {"float32"}
        for forms in cost.COSTS[device].values():
            for form, work in cost.WORK.items():
                assert forms[form].keys() == work(SMALL).keys()
                assert min(forms[form].values()) >= 0
                assert max(forms[form].values()) > 0


def test_a_cpu_with_one_thread_has_costs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, expected in ((1, "cpu, one thread"), (2, "cpu"), (64, "cpu")):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        assert cost.kind("cpu") == expected
        assert cost.kind("cuda") == "cuda"
    assert chosen(28) == "fft"  # of four tables, by several threads
    assert chosen(28, device_kind="cpu, one thread") == "none"


class Chooser(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        sizes = Sizes(tuple(map(operator.index, x.shape[1:-1])), 1, 4, 3, 1, 16, 192, "pattern")
        form = cheapest(sizes, x.dtype, x.device.type)
        return x.sin() if form == "none" else x.cos()


def test_compilers_see_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    # Compilers cannot trace the shape checks that tests/conftest.py wraps around functions.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    compiled = torch.compile(Chooser(), fullgraph=True, backend="eager", dynamic=False)
    for side, dtype, expected in ((56, torch.float32, torch.cos), (7, torch.float64, torch.sin)):
        x = torch.randn(2, side, side, 3, dtype=dtype)
        torch.testing.assert_close(compiled(x), expected(x), rtol=0, atol=0)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        Chooser(), (torch.randn(2, 56, 56, 3),), dynamic_shapes=({0: batch},)
    )
    x = torch.randn(5, 56, 56, 3)
    torch.testing.assert_close(program.module()(x), x.cos(), rtol=0, atol=0)
    assert len([node for node in program.graph.nodes if node.op == "call_function"]) == 1
