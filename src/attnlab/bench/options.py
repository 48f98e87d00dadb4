"""Command-line options that several benchmarks share, and their validation."""

import argparse
from pathlib import Path

import torch

from attnlab.ablation.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def add_common(parser: argparse.ArgumentParser, batch: int | None, out: str) -> None:
    """Add device, dtype, batch (unless None), threads, rounds and where the results go."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; default: cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    if batch is not None:
        parser.add_argument("--batch", type=int, default=batch, help=f"images; default: {batch}")
    parser.add_argument("--threads", type=int, help="CPU threads; default: as torch chooses")
    parser.add_argument("--rounds", type=int, help="samples of each time")
    parser.add_argument(
        "--out", type=Path, default=Path(out), metavar="DIR", help=f"default: {out}"
    )


def add_contest(parser: argparse.ArgumentParser, unit: str, gib: float) -> None:
    """Add what a benchmark of many subjects leaves out, and how long it takes."""
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"subjects beside {unit}")
    parser.add_argument("--quick", action="store_true", help="a subset of a few minutes")
    parser.add_argument("--budget", type=float, help="seconds of samples per subject and cell")
    parser.add_argument("--max-seconds", type=float, help="skip what takes longer per call")
    parser.add_argument(
        "--max-gib", type=float, default=gib, help=f"skip what takes more; default: {gib:g}"
    )


def at_least(name: str, value: float, least: float) -> None:
    """Check a number.

    Raises:
        UserError: It is below `least`.
    """
    if value < least:
        raise UserError(f"--{name} must be at least {least:g}, not {value:g}")


def device(text: str) -> torch.device:
    """Return the device of that name.

    Raises:
        UserError: There is none.
    """
    kind, _, index = text.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UserError(f"--device must be cpu, cuda or cuda:N, not {text!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {text}: torch sees {torch.cuda.device_count()} CUDA devices")
    return torch.device(text)


def use_threads(count: int | None) -> None:
    """Set the number of CPU threads, if one is given.

    Raises:
        UserError: It is below 1.
    """
    if count is not None:
        at_least("threads", count, 1)
        torch.set_num_threads(count)
