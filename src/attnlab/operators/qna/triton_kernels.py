"""The fused window sums: one pass for the denominators, one for the weighted values.

With e_n = exp(s_n - m) the weight of token n in window i is ``exp(bias) e_n / sum``: one
exponential per token and lane, not per window. The shift m is the largest score that a lane's
windows see, not each window's own, so a window far below its neighbours may lose its terms. Its
sum tells, and so does NaN for a position bias too large; then the row is computed again, less each
window's own largest logit.
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# Triton's language has no types that mypy knows, and no starred expressions.

import triton
import triton.language as tl

from attnlab.operators.qna.triton_tiles import (
    LN_2,
    LOG2_E,
    at_entry,
    blocks,
    channel_tile,
    columns,
    entry,
    in_row,
    load_channels,
    load_entry,
    load_query,
    put,
    query_tile,
    seen_row,
    store_channels,
    store_query,
    windows_of,
)


@triton.jit
def weights_kernel(bias, scale, below, above, size, BLOCK: tl.constexpr, MOST: tl.constexpr):
    """Compute the weights of denominators and numerators, NaN where a bias is beyond MOST."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    added = tl.load(bias + at, at < size, other=0.0)
    weight = tl.exp2(tl.minimum(added, MOST) * LOG2_E)
    weight = tl.where(added > MOST, float("nan"), weight)
    tl.store(below + at, weight, at < size)
    tl.store(above + at, weight * tl.load(scale + at, at < size, other=0.0), at < size)


@triton.jit
def _finite(item):
    return tl.where(item == float("-inf"), 0.0, item)


@triton.jit
def _denominators(
    scores, below, windows, tile, heads, extent, WINDOW: tl.constexpr, SHAPE: tl.constexpr,
    STEPS: tl.constexpr, BLOCK: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Return each query's largest score in a lane's windows, and the sums less that of each."""
    COLUMNS: tl.constexpr = columns(BLOCK, WINDOW)
    QUERIES: tl.constexpr = SHAPE[0]
    TOKENS: tl.constexpr = BLOCK[0]
    zeros = tl.full([BLOCK[1], BLOCK[2]], 0, KIND)
    peaks = (zeros - float("inf"),) * QUERIES
    sums = (zeros,) * (QUERIES * TOKENS)
    for index in range(windows[0]):
        token, offset = seen_row(index, windows, extent, WINDOW)
        row = scores + token * STEPS[0]
        weights = at_entry(below, offset, heads, SHAPE)
        for q in tl.static_range(QUERIES):
            peak = peaks[q]
            loaded = ()
            for j in tl.static_range(len(COLUMNS)):
                exist = in_row(tile, COLUMNS[j], extent[2])
                score = load_query(
                    row, tile, exist, COLUMNS[j], float("-inf"), q, STEPS[0], SHAPE, KIND
                )
                peak = tl.maximum(peak, score)
                loaded = loaded + (score,)
            shift = _finite(peak)
            shrink = tl.exp2((peaks[q] - shift) * LOG2_E)
            peaks = put(peaks, q, peak)
            for r in tl.static_range(TOKENS):
                sums = put(sums, q * TOKENS + r, sums[q * TOKENS + r] * shrink)
            for j in tl.static_range(len(COLUMNS)):
                power = tl.exp2((loaded[j] - shift) * LOG2_E)
                for r in tl.static_range(TOKENS):
                    if entry(COLUMNS[j], r, WINDOW) >= 0:
                        weight = load_entry(weights, entry(COLUMNS[j], r, WINDOW), q, SHAPE)
                        sums = put(sums, q * TOKENS + r, sums[q * TOKENS + r] + weight * power)
    return peaks, sums


@triton.jit
def _settle(
    peaks, sums, sums_row, dense, count, SHAPE: tl.constexpr, BLOCK: tl.constexpr,
    LEAST: tl.constexpr,
):  # fmt: skip
    """Store the logarithms of the sums; return shifts, inverses of sums, and which are lost."""
    QUERIES: tl.constexpr = SHAPE[0]
    TOKENS: tl.constexpr = BLOCK[0]
    NAN: tl.constexpr = tl.PropagateNan.ALL
    lost = tl.full([BLOCK[1], BLOCK[2]], 0, tl.int1)
    inverses = ()
    shifts = ()
    for q in tl.static_range(QUERIES):
        shifts = shifts + (_finite(peaks[q]),)
        smallest = tl.full([BLOCK[1], BLOCK[2]], 1, peaks[q].dtype)
        largest = smallest
        for r in tl.static_range(TOKENS):
            total = sums[q * TOKENS + r]
            exist = in_row(dense, r, count[2])
            seen = tl.where(exist, total, 1.0)
            smallest = tl.minimum(smallest, seen, propagate_nan=NAN)
            largest = tl.maximum(largest, seen, propagate_nan=NAN)
            guarded = tl.maximum(total, LEAST)
            inverses = inverses + (1.0 / guarded,)
            # Lost sums are stored anew, so that 0 is the sum of an empty window.
            logarithm = tl.where(total > 0.0, shifts[q] + tl.log2(guarded) * LN_2, float("-inf"))
            store_query(sums_row, dense, exist, r, logarithm, q, SHAPE)
        sound = (smallest >= LEAST) & (largest <= 1.0 / LEAST)
        lost = lost | ((peaks[q] != float("-inf")) & (sound == 0))
    return shifts, inverses, lost


@triton.jit
def _numerators(
    scores, values, above, shifts, inverses, windows, tile, heads, channels, extent,
    WINDOW: tl.constexpr, SHAPE: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr,
    KIND: tl.constexpr,
):  # fmt: skip
    """Return each token's sum of values, weighted by all queries."""
    COLUMNS: tl.constexpr = columns(BLOCK, WINDOW)
    QUERIES: tl.constexpr = SHAPE[0]
    TOKENS: tl.constexpr = BLOCK[0]
    sums = (tl.full([BLOCK[1], BLOCK[2], BLOCK[3]], 0, KIND),) * TOKENS
    for index in range(windows[0]):
        token, offset = seen_row(index, windows, extent, WINDOW)
        weights = at_entry(above, offset, heads, SHAPE)
        for j in tl.static_range(len(COLUMNS)):
            exist = in_row(tile, COLUMNS[j], extent[2])
            value = load_channels(
                values + token * STEPS[1], channels, exist, COLUMNS[j], STEPS[1], KIND
            )
            powers = ()
            for q in tl.static_range(QUERIES):
                score = load_query(
                    scores + token * STEPS[0], tile, exist, COLUMNS[j], float("-inf"), q,
                    STEPS[0], SHAPE, KIND,
                )  # fmt: skip
                powers = powers + (tl.exp2((score - shifts[q]) * LOG2_E),)
            for r in tl.static_range(TOKENS):
                if entry(COLUMNS[j], r, WINDOW) >= 0:
                    weight = tl.full([BLOCK[1], BLOCK[2]], 0, KIND)
                    for q in tl.static_range(QUERIES):
                        factor = load_entry(weights, entry(COLUMNS[j], r, WINDOW), q, SHAPE)
                        weight += factor * powers[q] * inverses[q * TOKENS + r]
                    sums = put(sums, r, sums[r] + weight[:, :, None] * value)
    return sums


@triton.jit
def _exact(
    scores, values, bias, scale, sums_row, windows, tile, channels, dense, heads, exist, TOKEN,
    extent, WINDOW: tl.constexpr, SHAPE: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr,
    KIND: tl.constexpr,
):  # fmt: skip
    """Return the sum of one token of each lane, less the largest logit of its own window."""
    QUERIES: tl.constexpr = SHAPE[0]
    total = tl.full([BLOCK[1], BLOCK[2], BLOCK[3]], 0, KIND)
    for q in tl.static_range(QUERIES):
        peak = tl.full([BLOCK[1], BLOCK[2]], 0, KIND) - float("inf")
        for index in range(windows[0] * WINDOW[0][2]):
            token, offset = seen_row(index // WINDOW[0][2], windows, extent, WINDOW)
            column = TOKEN * WINDOW[1][2] + index % WINDOW[0][2] * WINDOW[3][2]
            score = load_query(
                scores + token * STEPS[0], tile, in_row(tile, column, extent[2]), column,
                float("-inf"), q, STEPS[0], SHAPE, KIND,
            )  # fmt: skip
            table = at_entry(bias, offset + index % WINDOW[0][2], heads, SHAPE)
            peak = tl.maximum(peak, score + load_entry(table, 0, q, SHAPE))
        shift = _finite(peak)
        below = tl.full([BLOCK[1], BLOCK[2]], 0, KIND)
        above = tl.full([BLOCK[1], BLOCK[2], BLOCK[3]], 0, KIND)
        for index in range(windows[0] * WINDOW[0][2]):
            token, offset = seen_row(index // WINDOW[0][2], windows, extent, WINDOW)
            column = TOKEN * WINDOW[1][2] + index % WINDOW[0][2] * WINDOW[3][2]
            here = in_row(tile, column, extent[2])
            score = load_query(
                scores + token * STEPS[0], tile, here, column, float("-inf"), q, STEPS[0], SHAPE,
                KIND,
            )  # fmt: skip
            offset += index % WINDOW[0][2]
            added = load_entry(at_entry(bias, offset, heads, SHAPE), 0, q, SHAPE)
            weight = tl.exp2((score - shift + added) * LOG2_E)
            below += weight
            weight *= load_entry(at_entry(scale, offset, heads, SHAPE), 0, q, SHAPE)
            row = values + token * STEPS[1]
            above += weight[:, :, None] * load_channels(row, channels, here, column, STEPS[1], KIND)
        empty = below == 0.0
        below = tl.where(empty, 1.0, below)
        total += above * (1.0 / below)[:, :, None]
        logarithm = tl.where(empty, float("-inf"), shift + tl.log(below))
        store_query(sums_row, dense, exist, TOKEN, logarithm, q, SHAPE)
    return total


@triton.jit(do_not_specialize=["rows", "rows_each"])
def forward_kernel(
    scores, values, bias, scale, below, above, out, log_sum, rows, rows_each, extent, count,
    WINDOW: tl.constexpr, SHAPE: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr,
    KIND: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """Compute rows of windows; sums outside [LEAST, 1 / LEAST] are taken to be lost."""
    TOKENS: tl.constexpr = BLOCK[0]
    at, heads, inner, block, _ = blocks(count[2], SHAPE, BLOCK)
    x = at * WINDOW[1][2] - WINDOW[2][2]
    tile = query_tile(x, heads, STEPS[0], SHAPE)
    channels = channel_tile(x, heads, inner, STEPS[1], SHAPE)
    dense = query_tile(at, heads, SHAPE[0] * SHAPE[1], SHAPE)
    results = channel_tile(at, heads, inner, SHAPE[1] * SHAPE[2], SHAPE)
    for own in range(tl.minimum(rows_each, rows - block * rows_each)):
        row = block * rows_each + own
        windows = windows_of(row, extent, count, WINDOW)
        first = row.to(tl.int64) * count[2]
        sums_row = log_sum + first * (SHAPE[0] * SHAPE[1])
        out_row = out + first * (SHAPE[1] * SHAPE[2])
        peaks, sums = _denominators(
            scores, below, windows, tile, heads, extent, WINDOW, SHAPE, STEPS, BLOCK, KIND
        )
        shifts, inverses, lost = _settle(peaks, sums, sums_row, dense, count, SHAPE, BLOCK, LEAST)
        if tl.max(tl.max(lost.to(tl.int32), 1), 0) == 0:
            mixed = _numerators(
                scores, values, above, shifts, inverses, windows, tile, heads, channels, extent,
                WINDOW, SHAPE, STEPS, BLOCK, KIND,
            )  # fmt: skip
            for r in tl.static_range(TOKENS):
                exist = in_row(dense, r, count[2])
                store_channels(out_row, results, exist, r, mixed[r], SHAPE)
        else:
            tl.debug_barrier()  # the logarithms are stored anew
            for token in range(TOKENS):
                exist = in_row(dense, token, count[2])
                exact = _exact(
                    scores, values, bias, scale, sums_row, windows, tile, channels, dense, heads,
                    exist, token, extent, WINDOW, SHAPE, STEPS, BLOCK, KIND,
                )  # fmt: skip
                store_channels(out_row, results, exist, token, exact, SHAPE)
