"""``python -m attnlab validate-data --config FILE``: read everything once, before a run does.

Constructors and `setup` find what can be told from names and tables. This reads every sample whole
and writes what is wrong with which of them, and a list that data modules take as ``exclude``.
"""

import argparse
import json
import time
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import lightning as L
import yaml
from jsonargparse import ArgumentParser
from torch.utils.data import DataLoader, Dataset

from attnlab.data.loading import StreamedDataModule
from attnlab.data.progress import Progress
from attnlab.data.streamed import Source
from attnlab.files import write_atomically
from attnlab.messages import bad_input

PROBLEMS = 1
_CHUNK = 32  # samples per message of a worker
_LISTED = 100  # in report.md; report.json has all


class Problem(NamedTuple):
    """A sample that cannot be used, and why."""

    split: str
    name: str
    reason: str


class Report(NamedTuple):
    """What was found.

    Attributes:
        data: Class of the data module.
        samples: Number of samples that were read, per split.
        problems: Those that cannot be used.
        notes: What is odd about the set as a whole, though legal.
        seconds: Time it took.
    """

    data: str
    samples: dict[str, int]
    problems: list[Problem]
    notes: list[str]
    seconds: float


@runtime_checkable
class Noted(Protocol):
    """A data module that knows what is odd about its set as a whole."""

    def notes(self) -> Sequence[str]:
        """Return one line for each; called after `setup`."""


class _Checks(Dataset[Any]):
    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> str | None:
        return self.source.check(self.indices[position])


def check_source(source: Source, indices: Sequence[int], workers: int) -> Iterator[str | None]:
    """Yield what is wrong with each sample, in order.

    Args:
        source: The samples.
        indices: Which of them.
        workers: Processes that read.

    Raises:
        ValueError: One of the processes died.
    """
    checks = _Checks(source, indices)
    done = 0
    try:
        for chunk in DataLoader(checks, _CHUNK, num_workers=workers, collate_fn=list):
            yield from chunk
            done += len(chunk)
    except RuntimeError as error:  # a decoder crashed, or the machine ran out of memory
        begun = source.name(indices[done])
        raise ValueError(f"a worker died near {begun}; --workers 0 shows where: {error}") from error


def validate(data: L.LightningDataModule, workers: int) -> Report:
    """Set a data module up and read all its samples, each once.

    Data that are kept in memory are checked by `setup` itself.

    Args:
        data: The data module.
        workers: Processes that read.

    Raises:
        OSError: The data are not there.
        ValueError: They are not complete, or contradict each other.
    """
    start = time.monotonic()
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    samples: dict[str, int] = {}
    problems: list[Problem] = []
    seen: set[str] = set()
    for split, dataset in data.datasets.items() if isinstance(data, StreamedDataModule) else ():
        source, indices = dataset.source, []
        for index in range(len(source)):
            name = source.name(index)
            if name not in seen:  # splits may overlap, and views of a video share its name
                seen.add(name)
                indices.append(index)
        samples[split] = len(indices)
        progress = Progress(split, len(indices))
        for index, reason in zip(indices, check_source(source, indices, workers), strict=True):
            if reason is not None:
                problems.append(Problem(split, source.name(index), reason))
            progress.step(len(problems))
    notes = list(data.notes()) if isinstance(data, Noted) else []
    kind = f"{type(data).__module__}.{type(data).__qualname__}"
    return Report(kind, samples, problems, notes, time.monotonic() - start)


def write_report(report: Report, out: Path) -> None:
    """Write ``report.json``, ``report.md`` and ``exclude.txt``.

    Raises:
        OSError: `out` cannot be written.
    """
    fields = report._asdict() | {"problems": [each._asdict() for each in report.problems]}
    write_atomically(out / "report.json", json.dumps(fields, indent=2) + "\n")
    write_atomically(out / "report.md", markdown(report))
    names = "".join(f"{each.name}\n" for each in report.problems)
    write_atomically(out / "exclude.txt", names.encode(errors="surrogateescape"))


def markdown(report: Report) -> str:
    """Return the report for a reader; bytes of names that are no UTF-8 are escaped."""
    lines = [f"# {report.data}", ""]
    if report.samples:
        lines += ["| split | samples | problems |", "|---|---:|---:|"]
        for split, count in report.samples.items():
            found = sum(each.split == split for each in report.problems)
            lines.append(f"| {split} | {count:,} | {found:,} |")
    else:
        lines += ["The data were read and checked as a whole while loading."]
    lines += ["", f"{len(report.problems):,} problems; {report.seconds:.0f} s", ""]
    lines += [f"- {note}" for note in report.notes] + [""] * bool(report.notes)
    lines += [f"- `{each.name}`: {each.reason}" for each in report.problems[:_LISTED]]
    if len(report.problems) > _LISTED:
        lines.append(f"- and {len(report.problems) - _LISTED:,} more, in report.json")
    text = "\n".join(lines).rstrip() + "\n"
    return text.encode(errors="backslashreplace").decode()


def build(configs: Sequence[Path], overrides: Sequence[str]) -> L.LightningDataModule:
    """Build the data module of an experiment, and nothing else of it.

    Args:
        configs: Experiment files; of each only its section ``data`` is read.
        overrides: Arguments that replace some of theirs, such as ``--data.root=DIR``.

    Raises:
        ValueError: There is no such section, or a value in it is out of range.
        ArgumentError: It is not what its class takes.
        OSError: A file cannot be read.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(L.LightningDataModule, "data", required=True)
    arguments = []
    for config in configs:
        try:
            content = yaml.safe_load(config.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{config}: {' '.join(str(error).split())}") from error
        section = content.get("data") if isinstance(content, dict) else None
        if section is not None:
            arguments += ["--config", yaml.safe_dump({"data": section})]
    if not arguments and not overrides:
        raise ValueError(f"{', '.join(map(str, configs))}: no section 'data'")
    parsed = parser.parse_args([*arguments, *overrides])
    data: L.LightningDataModule = parser.instantiate_classes(parsed).data
    return data


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnlab validate-data",
        description="Read every sample of a data set once and write which cannot be used, and why. "
        "Exits with 0 where there are none, with 1 where there are some.",
        epilog="Arguments that begin with --data replace those of FILE: --data.root DIR",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--config",
        type=Path,
        metavar="FILE",
        action="append",
        required=True,
        help="experiment whose data to read; of several, later ones replace earlier ones",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("validate-data"),
        help="where report.md, report.json and exclude.txt go (default: %(default)s)",
    )
    add("--workers", type=int, metavar="N", help="processes that read (default: the data's own)")
    add("--strict", action="store_true", help="count oddities of the whole set as problems")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; `args` defaults to the process's arguments.

    Raises:
        SystemExit: With 1 when problems were found; with 2 and one line on stderr when the
            configuration is wrong or the data are not there.
    """
    options, overrides = _parser().parse_known_args(args)
    with bad_input(ArgumentError, ValueError, TypeError, OSError):
        unknown = [each for each in overrides if each.startswith("--") and each[:6] != "--data"]
        if unknown:
            raise ValueError(f"unknown argument {unknown[0]}")
        data = build(options.config, overrides)
        workers = getattr(data, "num_workers", 0) if options.workers is None else options.workers
        if workers < 0:
            raise ValueError(f"{workers=} must not be negative")
        report = validate(data, workers)
        write_report(report, options.out)
    print(markdown(report) + f"\n{options.out}: report.md, report.json, exclude.txt")
    if report.problems or (options.strict and report.notes):
        raise SystemExit(PROBLEMS)
