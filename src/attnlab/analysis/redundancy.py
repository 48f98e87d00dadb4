"""The redundancy of a network: its layers by CKA, its kernels by similarity, spread and rank."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from attnlab.analysis import kernels
from attnlab.analysis.cka import MinibatchCKA, gram
from attnlab.analysis.recording import evaluating, forward, layers, mixers, observing
from attnlab.operators.base import Grid, TokenMixer


@dataclass(frozen=True)
class KernelMeasures:
    """The measures of one mixer's kernel, see `attnlab.analysis.kernels`; NaN where undefined.

    Attributes:
        mixer: Its name in the network.
        operator: Its class.
        queries: Query tokens that were looked at, all of them where they are few.
        grid: Grid of the input tokens, which are its keys.
        out_grid: Grid of the output tokens, of which the queries are.
        samples: Samples that were looked at; 1 of a kernel that does not depend on them.
        across_heads: Similarity of heads, the mean over samples.
        across_queries: Similarity of queries as they stand, per head.
        relative: Similarity of queries seen from their own places, per head.
        entropy: In nats, per head.
        rank: Effective rank, per head.
    """

    mixer: str
    operator: str
    queries: int
    grid: Grid
    out_grid: Grid
    samples: int
    across_heads: float
    across_queries: Float[Tensor, " heads"]
    relative: Float[Tensor, " heads"]
    entropy: Float[Tensor, " heads"]
    rank: Float[Tensor, " heads"]

    @property
    def keys(self) -> int:
        """Number of input tokens."""
        return math.prod(self.grid)

    @property
    def spread(self) -> float:
        """Mean entropy over that of a uniform row: 0 for one token, 1 for all alike."""
        return mean(self.entropy) / math.log(self.keys) if self.keys > 1 else math.nan

    @property
    def highest_rank(self) -> int:
        """What `rank` cannot exceed."""
        return min(self.queries, self.keys)


@dataclass(frozen=True)
class Analysis:
    """All that was found.

    Attributes:
        layers: Names of the layers.
        cka: CKA between them.
        samples: Samples it is of.
        kernels: The measures of every mixer that has a kernel.
        similarity: Similarity of the kernels of two mixers; on the diagonal, of the heads of one.
            NaN where the grids of the two differ.
        without_kernel: Why other mixers have none, by name.
    """

    layers: tuple[str, ...]
    cka: Float64[Tensor, "layers layers"]
    samples: int
    kernels: tuple[KernelMeasures, ...]
    similarity: Float[Tensor, "mixers mixers"]
    without_kernel: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        """Return one figure per measure, the mean over layers; what is undefined is left out."""
        of = self.kernels
        values = {
            "diag/cka": off_diagonal(self.cka),
            "diag/kernel_similarity_heads": mean([each.across_heads for each in of]),
            "diag/kernel_similarity_layers": off_diagonal(self.similarity),
            "diag/kernel_similarity_queries": mean([mean(each.across_queries) for each in of]),
            "diag/kernel_similarity_relative": mean([mean(each.relative) for each in of]),
            "diag/kernel_entropy": mean([each.spread for each in of]),
            "diag/kernel_effective_rank": mean([mean(each.rank) for each in of]),
        }
        return {tag: value for tag, value in values.items() if math.isfinite(value)}


def analyse(
    network: nn.Module,
    batches: Iterable[Float[Tensor, "batch *shape"]],
    kernel_samples: int = 16,
    max_queries: int = 196,
) -> Analysis:
    """Analyse a network on samples.

    It runs in evaluation mode without gradients, draws no random numbers, and is left as it was.

    Args:
        network: A task or a network with token mixers.
        batches: Minibatches of samples, on any device.
        kernel_samples: Samples of the first minibatch whose kernels are looked at, spaced evenly.
            On clips a mixer of images has the frames for samples, and one of time the places.
        max_queries: Query tokens that are looked at in every kernel, spaced evenly.

    Raises:
        ValueError: The network has no mixer, no minibatch has four samples, or a number is below 1.
    """
    for name, value in (("kernel_samples", kernel_samples), ("max_queries", max_queries)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    blocks, operators = layers(network), mixers(network)
    cka = MinibatchCKA()
    inputs: dict[str, Tensor] = {}
    with evaluating(network):
        for batch in batches:
            grams: dict[str, Tensor] = {}

            def take(name: str, tensor: Tensor, grams: dict[str, Tensor] = grams) -> None:
                kind, _, rest = name.partition(":")
                if kind == "layer":
                    grams[rest] = gram(tensor)
                else:
                    chosen = kernels.spaced(len(tensor), kernel_samples)
                    inputs[rest] = tensor[chosen.to(tensor.device)]

            watched = {} if inputs else {f"mixer:{name}": each for name, each in operators.items()}
            blocks_watched = {f"layer:{name}": each for name, each in blocks.items()}
            with observing(blocks_watched, watched, take):
                forward(network, batch)
            cka.update([grams[name] for name in blocks])
        measured, rows, without = _kernels(operators, inputs, max_queries)
    return Analysis(
        tuple(blocks), cka.compute(), cka.samples, measured, _similarity(measured, rows), without
    )


Rows = tuple[Tensor, Tensor]
"""`kernels.pooled_rows` of all samples: [samples, queries, keys] and [samples, queries]."""


def _kernels(
    operators: Mapping[str, TokenMixer], inputs: Mapping[str, Tensor], max_queries: int
) -> tuple[tuple[KernelMeasures, ...], list[Rows], dict[str, str]]:
    measured, rows, without = [], [], {}
    for name, mixer in operators.items():
        try:
            measures, pooled = measure(name, mixer, inputs[name], max_queries)
        except ValueError as error:
            without[name] = str(error)
        else:
            measured.append(measures)
            rows.append(pooled)
    return tuple(measured), rows, without


def measure(
    name: str, mixer: TokenMixer, x: Float[Tensor, "samples *grid dim"], max_queries: int
) -> tuple[KernelMeasures, Rows]:
    """Return the measures of one mixer's kernel at the tokens it is given, and its pooled rows.

    One sample is held at a time. If the second, a different one, has the same kernel, all have.

    Raises:
        ValueError: The mixer has no kernel.
    """
    grid = tuple(x.shape[1:-1])
    out_grid = mixer.out_grid(grid)
    queries = kernels.spaced(math.prod(out_grid), max_queries)
    found: list[list[Tensor]] = []
    rows: list[Rows] = []
    first: tuple[Tensor, Tensor] | None = None
    for sample in torch.split(x, 1):
        kappa = mixer.token_weights(sample, queries.to(x.device))[0].detach().float().cpu()
        if first is None:
            first = sample, kappa
        elif len(rows) == 1 and torch.equal(kappa, first[1]) and not torch.equal(sample, first[0]):
            break
        rows.append(kernels.pooled_rows(kappa))
        place = (queries, grid, out_grid, mixer.stride)
        found.append(
            [
                torch.tensor([kernels.similarity_of_heads(kappa)]),
                kernels.similarity_of_queries(kappa),
                kernels.relative_similarity_of_queries(kappa, *place),
                kernels.entropy(kappa),
                kernels.effective_rank(kappa),
            ]
        )
    heads, *per_head = (torch.stack(each).nanmean(0) for each in zip(*found, strict=True))
    measures = KernelMeasures(
        name,
        type(mixer).__name__,
        len(queries),
        grid,
        out_grid,
        len(rows),
        float(heads),
        *per_head,
    )
    sums, counts = zip(*rows, strict=True)
    return measures, (torch.stack(sums), torch.stack(counts))


def _similarity(measured: Sequence[KernelMeasures], rows: Sequence[Rows]) -> Tensor:
    table = torch.full((len(rows), len(rows)), math.nan)
    for i, (first, a) in enumerate(zip(measured, rows, strict=True)):
        table[i, i] = first.across_heads
        for j, (second, b) in enumerate(zip(measured[:i], rows[:i], strict=True)):
            same_samples = len({len(a[0]), len(b[0])} - {1}) < 2  # one stands for all
            if (first.grid, first.out_grid) == (second.grid, second.out_grid) and same_samples:
                table[i, j] = table[j, i] = kernels.similarity_of_layers(a, b)
    return table


def mean(values: Tensor | Sequence[float]) -> float:
    """Return the mean of what is not NaN, NaN where nothing is."""
    return float(torch.as_tensor(values, dtype=torch.float64).nanmean())


def off_diagonal(table: Float[Tensor, "rows rows"]) -> float:
    """Return the mean of what is not NaN beside the diagonal, NaN where nothing is."""
    return mean(table[~torch.eye(len(table), dtype=torch.bool)])
