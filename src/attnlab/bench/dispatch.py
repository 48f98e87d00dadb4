"""``attnlab.bench dispatch``: when LiSA is faster dense and when by FFTs; writes the cost model."""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from attnlab.ablation.errors import UserError
from attnlab.bench import options as common
from attnlab.bench.dispatch_fit import FORMS, Coefficients, Layer, choice, fit, regret
from attnlab.bench.record import conditions, csv_text
from attnlab.bench.tables import markdown
from attnlab.bench.timing import interleave
from attnlab.files import write_atomically
from attnlab.operators.base import Grid
from attnlab.operators.lisa.cost import Sizes, dense_work, kind
from attnlab.operators.lisa.module import LiSA

DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16")}

SIDES = (4, 7, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 40, 56)
PRIMES = (11, 13, 17, 19, 23, 29, 31)
UNEVEN = ((7, 14), (10, 24), (16, 32), (4, 56), (2, 7, 7), (4, 7, 7), (8, 7, 7), (4, 14, 14))
WIDTHS = ((64, 2), (192, 3), (384, 6))
"""Channels and heads."""

RPES = (1, 4, 8)
KEY_DIM = 16

MOST_WORK = 9e8
"""Products of a sample in the dense form above which a layer is left out: seconds per call."""

CLEAR = 2.0
"""How far apart two times are for one sample of each to do: no doubt which form is faster."""

CALL_WORK = 5e7
"""Products of a batch in the dense form, within `BATCHES`: some milliseconds per call."""

BATCHES = (4, 32)
"""Samples in a batch, least and most: tables cost the same however many there are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; default: cpu")
    parser.add_argument(
        "--dtypes", nargs="+", choices=DTYPES, default=["float32", "float64"],
        help="default: float32 float64",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="CPU threads; default: as torch chooses")
    parser.add_argument("--rounds", type=int, default=4, help="samples of each time; default: 4")
    parser.add_argument("--quick", action="store_true", help="a few small layers, to try it out")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="where all times go, if anywhere")
    out = Path("runs/bench/dispatch/costs.json")
    parser.add_argument(
        "--out", type=Path, default=out, metavar="FILE",
        help="coefficients; other devices in it stay. The package reads "
        f"src/attnlab/operators/lisa/costs.json; default: {out}",
    )  # fmt: skip


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Measure, fit, write the coefficients and show what choosing by them costs."""
    device = common.device(options.device)
    common.at_least("rounds", options.rounds, 1)
    if "float32" not in options.dtypes:
        raise UserError("--dtypes must include float32, for which types not measured are taken")
    common.use_threads(options.threads)
    known = _content(options.out)
    header = conditions(arguments)
    fitted: dict[str, Coefficients] = {}
    lines: list[dict[str, object]] = []
    for dtype in options.dtypes:
        cells = list(problems(options.quick))
        layers = [measure(sizes, DTYPES[dtype], device, options.rounds) for sizes in cells]
        fitted[dtype] = fit(layers)
        lines += csv_lines(dtype, layers, fitted[dtype])
        print(f"## {dtype}\n\n{report(layers, fitted[dtype])}\n", flush=True)
        # Whole after every type: an interrupted benchmark keeps what it has measured.
        known[kind(device.type)] = {"conditions": header, "nanoseconds": fitted}
        write_atomically(options.out, json.dumps(known, indent=2) + "\n")
        if options.csv:
            write_atomically(options.csv, csv_text(header, lines))
    print(options.out)
    return 0


def _content(path: Path) -> dict[str, object]:
    """Return what a file of coefficients holds; nothing if there is none.

    Raises:
        UserError: It holds something else.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = [entry["nanoseconds"] for entry in content.values()]
    except (ValueError, AttributeError, KeyError, TypeError):
        raise UserError(f"--out {path} holds no coefficients and is not overwritten") from None
    assert len(entries) == len(content)
    return dict(content)


def problems(quick: bool) -> Iterator[Sizes]:
    """Yield the layers to measure, but for those with more than `MOST_WORK`."""
    if quick:
        found = [_sizes((side, side), rpes, 64, 2) for side in (4, 8, 12) for rpes in (1, 4)]
    else:
        squares = [(side, side) for side in SIDES]
        others = [*((side, side) for side in PRIMES), *UNEVEN]
        found = [_sizes(grid, r, *width) for grid in squares for width in WIDTHS for r in RPES]
        found += [_sizes(grid, rpes, 192, 3) for grid in others for rpes in RPES]
        found += [_sizes((side, side), 4, 192, 3, stride=2) for side in (14, 28, 40)]
        found += [
            _sizes((side, side), rpes, 64, 2, variant="mask")
            for side in (7, 14, 28)
            for rpes in (1, 4)
        ]
    yield from (sizes for sizes in found if _products(sizes) <= MOST_WORK)


def _products(sizes: Sizes) -> int:
    return sum(dense_work(sizes).values())


def _sizes(
    grid: Grid, rpes: int, width: int, heads: int, *, stride: int = 1, variant: str = "pattern"
) -> Sizes:
    return Sizes(grid, stride, rpes, heads, 1, KEY_DIM, width, variant)


def measure(sizes: Sizes, dtype: torch.dtype, device: torch.device, rounds: int) -> Layer:
    """Time forward and backward of both forms of a layer, in turn.

    The least of the samples counts: whatever else the machine does only adds to them. Forms that
    are `CLEAR` apart are sampled once.

    Args:
        sizes: Of the layer.
        dtype: Of tokens and parameters.
        device: Where it runs.
        rounds: Samples at most.
    """
    least, most = BATCHES
    batch = max(least, min(most, round(CALL_WORK / _products(sizes))))
    calls: dict[str, Callable[[], object]] = {
        form: _call(form, sizes, batch, dtype, device) for form in FORMS
    }
    for call in calls.values():
        call()
    samples = interleave(calls, device, 1, budget_s=1.0)
    (dense,), (fft,) = samples.values()
    if max(dense, fft) < CLEAR * min(dense, fft):
        samples = interleave(calls, device, rounds, budget_s=1.0)
    return Layer(sizes, {form: min(samples[form]) / batch for form in FORMS})


def _call(
    form: str, sizes: Sizes, batch: int, dtype: torch.dtype, device: torch.device
) -> Callable[[], object]:
    """Return what computes the gradients of a layer's input and parameters."""
    chosen: dict[str, Any] = {"approximation": form, "variant": sizes.variant}
    chosen |= {"num_rpes": sizes.rpes, "key_dim": sizes.key_dim, "key_groups": sizes.key_groups}
    layer = LiSA(sizes.out_dim, sizes.heads, sizes.grid, sizes.stride, **chosen).to(device, dtype)
    x = torch.randn(
        batch, *sizes.grid, sizes.out_dim, dtype=dtype, device=device, requires_grad=True
    )
    wanted = [x, *layer.parameters()]
    grad = torch.randn_like(layer(x))
    return lambda: torch.autograd.grad(layer(x), wanted, grad)


def report(layers: Sequence[Layer], coefficients: Coefficients) -> str:
    """Return a table of choices and regrets, grids by widths and R, and their worst and median."""
    columns = list(dict.fromkeys(_column(layer.sizes) for layer in layers))
    entries = {
        (_line(layer.sizes), _column(layer.sizes)): (
            f"{choice(layer, coefficients)} {regret(layer, coefficients):.2f}"
        )
        for layer in layers
    }
    lines = [
        [line, *(entries.get((line, column), "") for column in columns)]
        for line in dict.fromkeys(_line(layer.sizes) for layer in layers)
    ]
    regrets = sorted(regret(layer, coefficients) for layer in layers)
    wrong = sum(value > 1 for value in regrets)
    summary = (
        f"Chosen form and its time over that of the faster one: worst {regrets[-1]:.3f}, median "
        f"{statistics.median(regrets):.3f}, the slower form in {wrong} of {len(layers)} layers."
    )
    return f"{markdown(['tokens', *columns], lines)}\n\n{summary}"


def _line(sizes: Sizes) -> str:
    stride = f", stride {sizes.stride}" if sizes.stride > 1 else ""
    variant = f", {sizes.variant}" if sizes.variant != "pattern" else ""
    return "x".join(map(str, sizes.grid)) + stride + variant


def _column(sizes: Sizes) -> str:
    return f"{sizes.out_dim}/{sizes.heads}, R={sizes.rpes}"


def csv_lines(
    dtype: str, layers: Sequence[Layer], coefficients: Coefficients
) -> Iterator[dict[str, object]]:
    """Yield a line per layer: its sizes, times, choice and regret."""
    for layer in layers:
        yield {
            "dtype": dtype,
            **layer.sizes._asdict(),
            "grid": "x".join(map(str, layer.sizes.grid)),
            "tokens": math.prod(layer.sizes.grid),
            **{f"{form}_ms": f"{1e3 * layer.seconds[form]:.5g}" for form in FORMS},
            "chosen": choice(layer, coefficients),
            "regret": f"{regret(layer, coefficients):.4f}",
        }
