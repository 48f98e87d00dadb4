"""The scaling benchmark as CSV lines, as a Markdown page, and in a few key figures."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from attnlab.bench import tables
from attnlab.bench.fits import PowerLaw, power_law
from attnlab.bench.measure import FORWARD, TRAINING, Row, Timing
from attnlab.bench.scaling_subjects import UNIT, lisa_name
from attnlab.bench.subjects import Subject
from attnlab.bench.tables import MIB, figures

FIT_SIDES = (14, 112)
"""Least and largest side of the maps that exponents are fitted to."""

Value = Callable[[Row], float | None]

MEASURES: Mapping[str, tuple[str, Value]] = {
    "forward_ms": ("Forward, ms per image", lambda row: _ms(row.forward)),
    "training_ms": ("Forward + backward, ms per image", lambda row: _ms(row.training)),
    "saved_mib": ("Saved for the backward, MiB per image", lambda row: _mib(row.saved)),
    "forward_peak_mib": ("Peak of the forward, MiB per image", lambda row: _mib(row.forward_peak)),
    "training_peak_mib": (
        "Peak of forward + backward, MiB per image", lambda row: _mib(row.training_peak),
    ),
}  # fmt: skip
"""Column of the CSV: heading, and value of a row in these units."""

GROWS = ("time of forward + backward", "its peak memory")

CAPTION = (
    "All subjects ran in one process, one after the other in every round, each round beginning "
    "with another. Layers are complete with their projections. Forward: evaluation mode, without "
    "autograd. Forward + backward: to the gradients of the input and of every parameter. Entries "
    "are median ± half the interquartile range, divided by the images in a batch. Saved: what "
    "autograd keeps for the backward, distinct storages without parameters. Peak: the most that "
    "was allocated at a time, without parameters and input. Exponent: of N, the number of tokens, "
    f"by least squares between logarithms over maps of {FIT_SIDES[0]}² to {FIT_SIDES[1]}² tokens; "
    "in brackets the number n of maps and the root mean square distance to the line. LiSA's "
    "equations are this project's, built from the paper's abstract, and so are these figures of it."
)


def csv_lines(rows: Iterable[Row], batches: Mapping[int, int]) -> list[dict[str, object]]:
    """Return a line per row: milliseconds and MiB per image, ratios to the unit."""
    return [
        {
            "side": row.cell.side,
            "tokens": row.cell.tokens,
            "batch": batches[row.cell.side],
            "subject": row.subject,
            **tables.columns(row),
        }
        for row in rows
    ]


def fit(rows: Iterable[Row], subject: str, value: Value) -> PowerLaw | None:
    """Return how a measure of a subject grows with the number of tokens, None without two maps."""
    low, high = FIT_SIDES
    mine = (row for row in rows if row.subject == subject and low <= row.cell.side <= high)
    points = ((row.cell.tokens, value(row)) for row in mine)
    return power_law((tokens, height) for tokens, height in points if height)


def fit_lines(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return a line per subject and measure with its exponent, as far as there is one."""
    lines: list[dict[str, object]] = []
    for subject in dict.fromkeys(row.subject for row in rows):
        for name, (_, value) in MEASURES.items():
            if law := fit(rows, subject, value):
                lines.append(
                    {
                        "subject": subject,
                        "measure": name,
                        "exponent": round(law.exponent, 4),
                        "residual": round(law.residual, 4),
                        "n": law.n,
                        "from_tokens": round(law.low),
                        "to_tokens": round(law.high),
                    }
                )
    return lines


def page(
    header: Mapping[str, str],
    rows: Sequence[Row],
    subjects: Sequence[Subject],
    batches: Mapping[int, int],
) -> str:
    """Return the page: conditions, legend, key figures, the picture, and a table per measure."""
    sizes = ", ".join(f"{batch} of {side}²" for side, batch in batches.items())
    facts = {**header, "Images in a batch": sizes}
    blocks = ["# Time and memory against the number of tokens"]
    blocks += ["\n".join(f"- **{name}**: {value}" for name, value in facts.items())]
    blocks += ["\n".join(tables.legend(subject) for subject in subjects), CAPTION]
    if claims := key_figures(rows):
        blocks += ["## Key figures", "\n".join(f"- {line}" for line in claims)]
    if any(row.training for row in rows):
        blocks += ["![time and memory against the number of tokens](scaling.png)"]
    for name, (heading, value) in MEASURES.items():
        mode = FORWARD if name.startswith("forward") else TRAINING
        blocks += [f"## {heading}", _table(rows, mode, value, timed=name.endswith("_ms"))]
        if name.endswith("_ms"):
            blocks += [f"In units of {UNIT} in the same round:", _ratios(rows, mode)]
    blocks.append("\n".join(tables.failures(rows)))
    return "\n\n".join(block for block in blocks if block) + "\n"


def key_figures(rows: Sequence[Row]) -> list[str]:
    """Return a line per claim about LiSA: growth, time against the unit, memory against R."""
    names = {row.subject for row in rows}
    exact = [name for name in map(lisa_name, ("auto", "fft", "none")) if name in names]
    lines = []
    for name in exact:
        laws = [fit(rows, name, MEASURES[key][1]) for key in ("training_ms", "training_peak_mib")]
        grown = [f"{what} as {_power(law)}" for what, law in zip(GROWS, laws, strict=True) if law]
        lines += [f"{name}: {'; '.join(grown)}"] if grown else []
    for name in exact:
        times = [
            f"{_ratio(row.training)} at {row.cell.side}²"
            for row in rows
            if row.subject == name and row.training and row.training.ratio
        ]
        lines += (
            [f"{name}, forward + backward in units of {UNIT}: {', '.join(times)}"] if times else []
        )
    for form in ("auto", "fft"):
        few, many = lisa_name(form, 1), lisa_name(form, 8)
        peaks = {(row.subject, row.cell.side): row.training_peak for row in rows}
        more = [
            f"{figures(peak / least)} at {side}²"
            for (name, side), peak in peaks.items()
            if name == many and peak and (least := peaks.get((few, side)))
        ]
        lines += [f"LiSA {form}, peak at R=8 over R=1: {', '.join(more)}"] if more else []
    return lines


def shown(row: Row, mode: str, timing: Timing | None) -> str:
    """Return milliseconds with their spread and the ratio, or why there are none."""
    if timing is None:
        return tables.missing(row, mode)
    return f"{_time(timing)} ({_ratio(timing)})"


def _table(rows: Sequence[Row], mode: str, value: Value, timed: bool) -> str:
    def entry(row: Row) -> str:
        timing = row.forward if mode == FORWARD else row.training
        if timing and timed:
            return _time(timing)
        height = value(row)
        return tables.missing(row, mode) if height is None else figures(height)

    laws = {name: fit(rows, name, value) for name in dict.fromkeys(row.subject for row in rows)}
    exponents = {
        name: f"{law.exponent:.2f} ({_quality(law)})" if law else "" for name, law in laws.items()
    }
    return _by_side(rows, entry, exponents)


def _ratios(rows: Sequence[Row], mode: str) -> str:
    return _by_side(
        rows, lambda row: _ratio(row.forward if mode == FORWARD else row.training), None
    )


def _by_side(
    rows: Sequence[Row], entry: Callable[[Row], str], exponents: Mapping[str, str] | None
) -> str:
    """Return a table of subjects by maps, the exponents in a last column if there are any."""
    sides = list(dict.fromkeys(row.cell.side for row in rows))
    entries = {(row.subject, row.cell.side): entry(row) for row in rows}
    lines = [
        [
            name,
            *(entries.get((name, side), "") for side in sides),
            *([exponents[name]] if exponents else []),
        ]
        for name in dict.fromkeys(row.subject for row in rows)
    ]
    last = ["exponent"] if exponents else []
    return tables.markdown(["tokens", *(f"{side}²" for side in sides), *last], lines)


def _time(timing: Timing) -> str:
    took = timing.seconds
    return f"{figures(1e3 * took.median)} ± {figures(1e3 * took.half_width, 2)}"


def _ratio(timing: Timing | None) -> str:
    if timing is None or timing.ratio is None:
        return ""
    return f"{figures(timing.ratio.median)} ± {figures(timing.ratio.half_width, 2)}"


def _power(law: PowerLaw) -> str:
    low, high = (round(tokens**0.5) for tokens in (law.low, law.high))
    return f"N^{law.exponent:.2f} ({low}² to {high}², {_quality(law)})"


def _quality(law: PowerLaw) -> str:
    """Two points have no residual to speak of."""
    scatter = f", residual {figures(100 * law.residual, 2)} %" if law.n > 2 else ""
    return f"n = {law.n}{scatter}"


def _ms(timing: Timing | None) -> float | None:
    return None if timing is None else 1e3 * timing.seconds.median


def _mib(count: int | None) -> float | None:
    return None if count is None else count / MIB
