"""``attnlab.bench input``: the input pipeline against torchvision's, timm's and torchcodec's."""

import argparse
import contextlib
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnlab.ablation.errors import UserError
from attnlab.bench import input_files
from attnlab.bench import options as common
from attnlab.bench.input_contest import HERE, Child, Result, race
from attnlab.bench.input_races import AUGMENTED, CIFAR, CLIPS, PLAIN, RACES, STAGES, Goal, goals
from attnlab.bench.input_tables import csv_lines, goal_table, page, tables
from attnlab.bench.record import conditions, csv_text
from attnlab.bench.tables import MIB
from attnlab.data.cache import default_cache_dir
from attnlab.files import write_atomically

PARTS = {
    "images": (PLAIN, AUGMENTED),
    "stages": (STAGES,),
    "cifar": (CIFAR,),
    "clips": (CLIPS,),
    "start": (),
    "memory": (),
}
"""What may be asked for, and the races of each."""

CLASSES, TREE_CLASSES = 10, 1000
INDICES = (2, 8, 13, 18, 24, 29, 34, 40)
"""The centres of eight segments of 43 frames."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--peers-python",
        metavar="PATH",
        help="interpreter of the peers' environment; without it this project runs alone",
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=["images", "stages", "cifar", "clips"]
    )
    parser.add_argument(
        "--memory", action="store_true", help="also watch the loaders' memory over --epochs"
    )
    parser.add_argument("--rounds", type=int, default=6, help="samples of each time; default: 6")
    parser.add_argument("--images", type=int, default=240, help="distinct JPEGs; default: 240")
    parser.add_argument("--batch", type=int, default=64, help="images; default: 64")
    parser.add_argument("--batches", type=int, default=10, help="in a sample; default: 10")
    parser.add_argument("--clips", type=int, default=24, help="webm files; default: 24")
    parser.add_argument("--epochs", type=int, default=50, help="of --memory; default: 50")
    parser.add_argument(
        "--tree-images", type=int, default=100, help="per class of 1000, of start; default: 100"
    )
    parser.add_argument("--core", type=int, help="to stay on; default: the last one")
    parser.add_argument(
        "--files", type=Path, metavar="DIR", help="where to keep files; default: the cache"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench/input"), metavar="DIR")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Write the files that are missing, measure, and write CSV and page."""
    for name in ("rounds", "images", "batch", "batches", "clips", "tree_images"):
        common.at_least(name.replace("_", "-"), getattr(options, name), 1)
    common.at_least("epochs", options.epochs, 3)
    core = _core(options.core)
    header = conditions(arguments)
    header["Threads"] = f"1, on core {core}"
    parts = [*options.only, *(["memory"] if options.memory else [])]
    files: Path = options.files or default_cache_dir() / "bench-input"
    settings = {"core": core, "size": 224, **_prepare(options, parts, files)}
    names = [name for part in dict.fromkeys(parts) for name in PARTS[part]]
    races: dict[str, list[Result]] = {}
    found: list[Goal] = []
    if names:
        races, found = _races(options, names, settings, header)
    found += _checks(parts, settings)
    out: Path = options.out
    lines = csv_lines(races, found)
    write_atomically(out / "input.csv", csv_text(header, lines))
    write_atomically(out / "input.md", page(header, races, found))
    print("\n\n".join(filter(None, (tables(races), goal_table(found) if found else ""))))
    print(f"{out}: input.md, input.csv")
    return 0


def _core(chosen: int | None) -> int:
    if not hasattr(os, "sched_getaffinity"):
        return 0
    allowed = sorted(os.sched_getaffinity(0))
    if chosen is not None and chosen not in allowed:
        raise UserError(f"--core must be one of {', '.join(map(str, allowed))}, not {chosen}")
    return allowed[-1] if chosen is None else chosen


def _once(directory: Path, write: Callable[[Path], object]) -> str:
    """Write files whole or not at all, unless they are there; return where."""
    if not directory.exists():
        print(f"writing {directory}", file=sys.stderr)
        started = directory.with_name(f"{directory.name}.part")
        shutil.rmtree(started, ignore_errors=True)
        started.mkdir(parents=True)
        write(started)
        started.rename(directory)
    return str(directory)


def _prepare(options: argparse.Namespace, parts: Sequence[str], files: Path) -> dict[str, Any]:
    """Write the files that the parts need and return what the children are told."""
    settings: dict[str, Any] = {
        "cache": str(files / "cache"),
        "classes": CLASSES,
        "batch": options.batch,
        "batches": options.batches,
        "cifar_batch": 128,
        "cifar_batches": 4 * options.batches,
        "indices": INDICES,
        "stream_batches": min(4, options.batches),
        "epochs": options.epochs,
        "tree_classes": TREE_CLASSES,
    }
    if {"images", "stages", "start"} & set(parts):
        copies = -(-options.batch * options.batches // options.images)
        settings["images"] = _once(
            files / f"images-{options.images}x{copies}",
            lambda path: input_files.write_images(path, options.images, copies, CLASSES),
        )
    if "clips" in parts:
        settings["clips"] = _once(
            files / f"clips-{options.clips}",
            lambda path: input_files.write_clips(path, options.clips),
        )
        settings["frames"] = f"{settings['clips']}-frames"
    if "start" in parts:
        settings["tree"] = _once(
            files / f"tree-{TREE_CLASSES}x{options.tree_images}",
            lambda path: input_files.write_tree(path, TREE_CLASSES, options.tree_images),
        )
    return settings


def _races(
    options: argparse.Namespace,
    names: Sequence[str],
    settings: Mapping[str, Any],
    header: dict[str, str],
) -> tuple[dict[str, list[Result]], list[Goal]]:
    with contextlib.ExitStack() as stack:
        peers = None
        if options.peers_python:
            script = HERE / "input_peers.py"
            peers = stack.enter_context(Child(options.peers_python, script, settings))
            header["Peers"] = peers.ask("versions")["value"]
        ours = stack.enter_context(Child(sys.executable, HERE / "input_ours.py", settings))
        if CLIPS in names:
            ours.ask("convert")
        races = {}
        for name in names:
            print(f"{name}: {options.rounds} rounds", file=sys.stderr)
            races[name] = race(RACES[name], ours, peers, options.rounds)
        found = goals(races)
        if PLAIN in names:
            difference = ours.ask("resize")["value"]
            about = "mean difference of our resized crops from Pillow's, grey levels"
            found.append(Goal("G1", about, difference, 0.05, least=False))
    return races, found


def _checks(parts: Sequence[str], settings: Mapping[str, Any]) -> list[Goal]:
    """Return what was found of start, stream and memory, each in a fresh process."""
    found, free = [], {**settings, "core": None}

    def ask(name: str) -> Any:
        with Child(sys.executable, HERE / "input_checks.py", free) as child:
            return child.ask(name)["value"]

    if "start" in parts:
        first, indexed, hashes = ask("start"), ask("start"), ask("stream")
        about = f"start on {indexed['samples']:,} indexed images ({first['seconds']:.3g} s before)"
        found.append(Goal("G5", about, indexed["seconds"], 5, least=False, unit=" s"))
        about = "different streams from 0, 1, 2 and 4 workers"
        found.append(Goal("G5", about, len(set(hashes)), 1, least=False))
    if "memory" in parts:
        found.append(growth(ask("memory")))
    return found


def growth(after: Sequence[int]) -> Goal:
    """Return by how much memory grew after the second epoch, as a goal.

    A worker keeps a few MiB more or less from epoch to epoch, as the C library happens to return
    them, so this is the rise of the line of least squares from the second epoch to the last.

    Args:
        after: Bytes after each epoch.
    """
    slope, start = statistics.linear_regression(range(len(after) - 1), after[1:])
    change = slope * (len(after) - 2) / start
    least, most = (bound(after[1:]) / MIB for bound in (min, max))
    about = (
        f"growth of a loader and 2 workers over {len(after)} epochs ({least:.0f} to {most:.0f} MiB)"
    )
    return Goal("memory", about, 100 * change, 1, least=False, unit=" %")
