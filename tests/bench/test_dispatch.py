"""The dispatch benchmark: the fit from known times, the regret, and the command."""

import csv
import json
import math
from itertools import product
from pathlib import Path

import pytest
import torch

from attnlab.bench import dispatch
from attnlab.bench.cli import main
from attnlab.bench.dispatch_fit import FORMS, Layer, choice, fit, regret, shared_work
from attnlab.operators.lisa import cost
from attnlab.operators.lisa.cost import Sizes

KNOWN = {
    "none": {"pairs": 3.0, "products": 0.07, "tables": 0.9},
    "fft": {"butterflies": 0.11, "points": 1.3},
}


def sizes(
    grid: tuple[int, ...], rpes: int, width: int, heads: int, variant: str = "pattern"
) -> Sizes:
    return Sizes(grid, 1, rpes, heads, 1, 16, width, variant)


SOME = [
    sizes((side, side), rpes, width, heads, variant)
    for side, rpes, (width, heads), variant in product(
        (5, 9, 14, 21, 31), (1, 3, 8), ((64, 2), (192, 3)), ("pattern", "mask")
    )
]


def timed(each: Sizes, disturbed: float = 1.0) -> Layer:
    alike = shared_work(each)
    shared = 1e-9 * (0.05 * alike["projections"] + 2.0 * alike["maps"])
    return Layer(
        each, {form: disturbed * (shared + cost.seconds(form, each, KNOWN)) for form in FORMS}
    )


def test_what_forms_share_by_hand() -> None:
    each = sizes((3, 5), 7, 22, 2)
    assert shared_work(each) == {"projections": 15 * 22 * (44 + 3 * 16), "maps": 15 * 22}


def test_fit_recovers_known_coefficients() -> None:
    found = fit([timed(each) for each in SOME])
    for form in FORMS:
        assert found[form] == pytest.approx(KNOWN[form], rel=2e-3)


def test_fit_bears_noise_and_gives_nothing_below_zero() -> None:
    noisy = [
        Layer(each, {form: took * (1.1 if (i + j) % 3 else 0.9) for j, (form, took) in pairs})
        for i, each in enumerate(SOME)
        for pairs in [list(enumerate(timed(each).seconds.items()))]
    ]
    found = fit(noisy)
    assert min(value for form in FORMS for value in found[form].values()) >= 0
    for each in SOME:
        for form in FORMS:
            ratio = cost.seconds(form, each, found) / cost.seconds(form, each, KNOWN)
            assert 0.75 < ratio < 1.33


def test_layers_whose_forms_are_far_apart_count_little() -> None:
    def misjudged(of: Sizes) -> bool:
        took = timed(of).seconds
        return abs(math.log(took["none"] / took["fft"])) > 2

    far = [each for each in SOME if misjudged(each)]
    assert 0 < len(far) < len(SOME)
    found = fit([timed(each, 1.5 if each in far else 1.0) for each in SOME])
    near = [each for each in SOME if each not in far]
    assert all(choice(timed(each), found) == choice(timed(each), KNOWN) for each in near)


def test_regret_of_a_made_up_table() -> None:
    small, large = sizes((4, 4), 4, 64, 2), sizes((40, 40), 4, 64, 2)
    assert (choice(Layer(small, {}), KNOWN), choice(Layer(large, {}), KNOWN)) == ("none", "fft")
    right, wrong = Layer(small, {"none": 2.0, "fft": 3.0}), Layer(large, {"none": 2.0, "fft": 3.0})
    assert (regret(right, KNOWN), regret(wrong, KNOWN)) == (1.0, 1.5)
    text = dispatch.report([right, wrong], KNOWN)
    assert "| 4x4 | none 1.00 |" in text
    assert "| 40x40 | fft 1.50 |" in text
    assert "worst 1.500, median 1.250, the slower form in 1 of 2 layers" in text


def test_layers_measured() -> None:
    found = list(dispatch.problems(quick=False))
    assert len(found) == len({*found})
    assert {each.grid for each in found} >= {(4, 4), (56, 56), (31, 31), (4, 14, 14), (10, 24)}
    assert {each.rpes for each in found} == {1, 4, 8}
    assert {(each.out_dim, each.heads) for each in found} == {(64, 2), (192, 3), (384, 6)}
    assert {each.variant for each in found} == {"pattern", "mask"}
    assert {each.stride for each in found} == {1, 2}
    assert sizes((56, 56), 8, 384, 6) not in found  # seconds per call


def test_a_layer_is_timed_per_sample() -> None:
    layer = dispatch.measure(sizes((3, 5), 2, 12, 3), torch.float64, torch.device("cpu"), rounds=1)
    assert layer.seconds.keys() == {"none", "fft"}
    # A whole batch of at least 4 took no less than some kernel launches.
    assert all(1e-6 < took < 1 for took in layer.seconds.values())


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out, times = tmp_path / "costs.json", tmp_path / "times.csv"
    kept = {"conditions": {"Command": "earlier"}, "nanoseconds": {"float32": KNOWN}}
    out.write_text(json.dumps({"cuda": kept}))
    arguments = ["dispatch", "--quick", "--rounds", "1", "--dtypes", "float32"]
    assert main([*arguments, "--out", str(out), "--csv", str(times)]) == 0
    content = json.loads(out.read_text())
    assert content["cuda"] == kept
    conditions = content[cost.kind("cpu")]["conditions"]
    assert conditions["Command"].startswith("python -m attnlab.bench dispatch --quick")
    assert conditions["Threads"] == str(torch.get_num_threads())
    costs = cost.read(out)
    assert costs["cuda"] == {torch.float32: KNOWN}
    measured = costs[cost.kind("cpu")][torch.float32]
    lines = [line for line in times.read_text().splitlines() if not line.startswith("# ")]
    rows = list(csv.DictReader(lines))
    assert [row["grid"] for row in rows] == ["4x4", "4x4", "8x8", "8x8", "12x12", "12x12"]
    for row, each in zip(rows, dispatch.problems(quick=True), strict=True):
        took = {form: float(row[f"{form}_ms"]) for form in FORMS}
        layer = Layer(each, took)
        assert row["chosen"] == choice(layer, measured)
        assert float(row["regret"]) == pytest.approx(regret(layer, measured), abs=1e-3)
    assert "| 12x12 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["--dtypes", "float64"], "--dtypes must include float32"),
        (["--device", "tpu"], "--device must be cpu, cuda or cuda:N, not 'tpu'"),
        (["--out", "notes.json"], "notes.json holds no coefficients and is not overwritten"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.json").write_text('["something else"]')
    assert main(["dispatch", "--quick", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert Path("notes.json").read_text() == '["something else"]'
