"""The numbers of an analysis as CSV, unrounded; what is not defined is empty."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from attnlab.analysis.overlay import Point, QueryKernels
from attnlab.analysis.redundancy import Analysis, KernelMeasures, mean

Line = Mapping[str, object]


def write(found: Analysis, out_dir: Path) -> list[Path]:
    """Write all numbers of an analysis to `out_dir` and return the paths.

    - ``summary.csv``: the figures of `Analysis.summary`.
    - ``kernels.csv``: the measures of every mixer, means over heads.
    - ``heads.csv``: those of every head.
    - ``cka.csv`` and ``kernel_similarity.csv``: the tables between layers and between mixers.
    """
    names = [one.mixer for one in found.kernels]
    lines: Mapping[str, Sequence[Line]] = {
        "summary.csv": [{"tag": tag, "value": v} for tag, v in found.summary().items()],
        "kernels.csv": [_mixer(one) for one in found.kernels],
        "heads.csv": [line for one in found.kernels for line in _heads(one)],
        "cka.csv": _square(found.layers, found.cka),
        "kernel_similarity.csv": _square(names, found.similarity),
    }
    return [_write(out_dir / name, content) for name, content in lines.items() if content]


def write_query_kernels(
    found: Sequence[QueryKernels], points: Sequence[Point], heads: int, path: Path
) -> Path:
    """Write the weights of the first `heads` heads at the query points, a line per weight."""
    names = ("mixer", "query_row", "query_column", "head", "key_row", "key_column")
    lines = (
        dict(zip(names, (one.mixer, *point, head, *key), strict=True)) | {"weight": weight}
        for one in found
        for point, kappa in zip(points, one.kappa, strict=True)
        for head, kernel in enumerate(kappa[:heads])
        for key, weight in _entries(kernel)
    )
    return _write(path, lines)


def _entries(kernel: Float[Tensor, "rows columns"]) -> Iterable[tuple[Point, float]]:
    for row, weights in enumerate(kernel.tolist()):
        for column, weight in enumerate(weights):
            yield (row, column), weight


def _mixer(one: KernelMeasures) -> Line:
    return {
        "mixer": one.mixer,
        "operator": one.operator,
        "heads": len(one.entropy),
        "queries": one.queries,
        "keys": one.keys,
        "samples": one.samples,
        "similarity_heads": one.across_heads,
        "similarity_queries": mean(one.across_queries),
        "similarity_relative": mean(one.relative),
        "entropy_nats": mean(one.entropy),
        "entropy": one.spread,
        "effective_rank": mean(one.rank),
        "highest_rank": one.highest_rank,
    }


def _heads(one: KernelMeasures) -> Iterable[Line]:
    columns = {
        "similarity_queries": one.across_queries,
        "similarity_relative": one.relative,
        "entropy_nats": one.entropy,
        "effective_rank": one.rank,
    }
    for head in range(len(one.entropy)):
        values = {name: float(column[head]) for name, column in columns.items()}
        yield {"mixer": one.mixer, "head": head, **values}


def _square(names: Sequence[str], table: Tensor) -> list[Line]:
    rows = zip(names, table.tolist(), strict=True)
    return [{"": name, **dict(zip(names, values, strict=True))} for name, values in rows]


def _write(path: Path, lines: Iterable[Line]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for line in lines:
            if writer is None:
                writer = csv.DictWriter(file, list(line), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: _known(value) for name, value in line.items()})
    return path


def _known(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else value
