"""The backward of the fused window sums over input tokens, without atomic operations.

With p the attention of a query, g the gradient of the output and g.v its product with a value
over a head's channels, token n gathers from the windows i that see it

    logit_in = p (scale (g_i.v_n) - product_i)      scores_n = sum_i logit_in
    values_n = sum_i (sum_l scale p) g_i

and ``sum_in logit_in`` is the gradient of bias: every program adds to a share of its own.
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# Triton's language has no types that mypy knows, and no starred expressions.

import triton
import triton.language as tl

from attnlab.operators.qna.triton_tiles import (
    LOG2_E,
    add_terms,
    at_entry,
    blocks,
    channel_tile,
    in_row,
    load_channels,
    load_entry,
    load_log_sum,
    load_query,
    put,
    query_tile,
    store_channels,
    store_query,
)


@triton.constexpr_function
def seeing_columns(BLOCK, WINDOW):
    """Return which windows see a lane's tokens, from the one at the lane's first token / stride."""
    size, stride, before, dilation = (axis[2] for axis in WINDOW)
    starts = range(before - (size - 1) * dilation, before + 1, dilation)
    reached = {token + start for token in range(BLOCK[0]) for start in starts}
    return sorted(place // stride for place in reached if place % stride == 0)


@triton.constexpr_function
def seeing_entry(column, token, WINDOW):
    """Return as which entry the window of a column sees a lane's token, or -1."""
    size, stride, before, dilation = (axis[2] for axis in WINDOW)
    index, rest = divmod(token + before - column * stride, dilation)
    return index if rest == 0 and 0 <= index < size else -1


@triton.constexpr_function
def period(WINDOW, AXIS):
    """Return how many entries lie between two of windows that see the same token."""
    stride, dilation = WINDOW[1][AXIS], WINDOW[3][AXIS]
    while dilation:
        stride, dilation = dilation, stride % dilation
    return WINDOW[1][AXIS] // stride


@triton.jit
def seeing(at, many, WINDOW: tl.constexpr, AXIS: tl.constexpr):
    """Return the first entry as which a window inside the grid sees a token, and how many do."""
    SIZE: tl.constexpr = WINDOW[0][AXIS]
    STRIDE: tl.constexpr = WINDOW[1][AXIS]
    DILATION: tl.constexpr = WINDOW[3][AXIS]
    PERIOD: tl.constexpr = period(WINDOW, AXIS)
    reach = at + WINDOW[2][AXIS]
    phase = at * 0 + SIZE
    for index in tl.static_range(PERIOD):
        met = (reach + STRIDE * DILATION - index * DILATION) % STRIDE == 0
        phase = tl.where(met, index, phase)
    least = (tl.maximum(reach - (many - 1) * STRIDE, 0) + DILATION - 1) // DILATION
    first = phase + (tl.maximum(least - phase, 0) + PERIOD - 1) // PERIOD * PERIOD
    last = tl.minimum(reach // DILATION, SIZE - 1)
    return first, tl.maximum(last - first + PERIOD, 0) // PERIOD


@triton.jit
def seeing_of(row, extent, count, WINDOW: tl.constexpr):
    """Return how many rows of windows see a row of tokens, and what tells `seeing_row`."""
    frame = row // extent[1]
    y = row % extent[1]
    t = frame % extent[0]
    first_t, many_t = seeing(t, count[0], WINDOW, 0)
    first_y, many_y = seeing(y, count[1], WINDOW, 1)
    begin = (frame // extent[0]).to(tl.int64) * count[0]
    reach = (t + WINDOW[2][0], y + WINDOW[2][1])
    return many_t * many_y, begin, reach, first_t, first_y, many_y


@triton.jit
def seeing_row(index, windows, count, WINDOW: tl.constexpr):
    """Return the first window of one of the rows that see the tokens, and its first offset."""
    _, begin, reach, first_t, first_y, many_y = windows
    t = first_t + index // many_y * period(WINDOW, 0)
    y = first_y + index % many_y * period(WINDOW, 1)
    row = begin + (reach[0] - t * WINDOW[3][0]) // WINDOW[1][0]
    row = row * count[1] + (reach[1] - y * WINDOW[3][1]) // WINDOW[1][1]
    return row * count[2], (t * WINDOW[0][1] + y) * WINDOW[0][2]


@triton.jit
def _of_token(
    terms, to_scores, product, scores, sums, beyond, totals, biases, scales,
    ENTRY: tl.constexpr, TOKEN: tl.constexpr, SIZE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Add what one window of one of the tokens gives, and return its weight for the values."""
    QUERIES: tl.constexpr = SHAPE[0]
    weight = product * 0.0
    for q in tl.static_range(QUERIES):
        added = load_entry(biases, ENTRY, q, SHAPE) - beyond[q]
        logit = scores[TOKEN * QUERIES + q] - sums[q] + added
        attention = tl.exp2(logit * LOG2_E)
        factor = load_entry(scales, ENTRY, q, SHAPE)
        weight += attention * factor
        term = attention * (factor * product - totals[q])
        terms = put(terms, q * SIZE + ENTRY, terms[q * SIZE + ENTRY] + term)
        to_scores = put(to_scores, TOKEN * QUERIES + q, to_scores[TOKEN * QUERIES + q] + term)
    return terms, to_scores, weight


@triton.jit
def _seeing_terms(
    grad, log_sum, products, excess, tables, values, scores, to_values, to_scores, windows,
    tile, channels, index, heads, count, WINDOW: tl.constexpr, SHAPE: tl.constexpr,
    BLOCK: tl.constexpr, KIND: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Return what one of the rows of windows gives: terms, and the gradients with it."""
    COLUMNS: tl.constexpr = seeing_columns(BLOCK, WINDOW)
    SIZE: tl.constexpr = WINDOW[0][2]
    QUERIES: tl.constexpr = SHAPE[0]
    TOKENS: tl.constexpr = BLOCK[0]
    DENSE: tl.constexpr = SHAPE[0] * SHAPE[1]
    WIDTH: tl.constexpr = SHAPE[1] * SHAPE[2]
    first, offset = seeing_row(index, windows, count, WINDOW)
    biases = at_entry(tables[0], offset, heads, SHAPE)
    scales = at_entry(tables[1], offset, heads, SHAPE)
    terms = (tl.full([BLOCK[1], BLOCK[2]], 0, KIND),) * (QUERIES * SIZE)
    for j in tl.static_range(len(COLUMNS)):
        exist = in_row(tile, COLUMNS[j], count[2])
        item = load_channels(grad + first * WIDTH, channels, exist, COLUMNS[j], WIDTH, KIND)
        sums = ()
        totals = ()
        beyond = (0.0,) * QUERIES
        for q in tl.static_range(QUERIES):
            line = log_sum + first * DENSE
            sums = sums + (load_log_sum(line, tile, exist, COLUMNS[j], q, SHAPE, KIND),)
            line = products + first * DENSE
            total = load_query(line, tile, exist, COLUMNS[j], 0.0, q, DENSE, SHAPE, KIND)
            totals = totals + (total,)
            if EXACT:
                line = excess + first * DENSE
                total = load_query(line, tile, exist, COLUMNS[j], 0.0, q, DENSE, SHAPE, KIND)
                beyond = put(beyond, q, total)
        for r in tl.static_range(TOKENS):
            if seeing_entry(COLUMNS[j], r, WINDOW) >= 0:
                terms, to_scores, weight = _of_token(
                    terms, to_scores, tl.sum(item * values[r], 2), scores, sums, beyond,
                    totals, biases, scales, seeing_entry(COLUMNS[j], r, WINDOW), r, SIZE, SHAPE,
                )  # fmt: skip
                to_values = put(to_values, r, to_values[r] + weight[:, :, None] * item)
    return offset, terms, to_values, to_scores


@triton.jit(do_not_specialize=["rows", "rows_each"])
def token_kernel(
    grad, scores, values, bias, scale, log_sum, products, excess, grad_scores, grad_values,
    shares, rows, rows_each, extent, count, WINDOW: tl.constexpr, SHAPE: tl.constexpr,
    STEPS: tl.constexpr, BLOCK: tl.constexpr, KIND: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of rows of scores and values, and a share of the gradient of bias."""
    QUERIES: tl.constexpr = SHAPE[0]
    TOKENS: tl.constexpr = BLOCK[0]
    DENSE: tl.constexpr = SHAPE[0] * SHAPE[1]
    WIDTH: tl.constexpr = SHAPE[1] * SHAPE[2]
    at, heads, inner, block, place = blocks(extent[2], SHAPE, BLOCK)
    x = at // WINDOW[1][2]
    tile = query_tile(x, heads, DENSE, SHAPE)
    channels = channel_tile(x, heads, inner, WIDTH, SHAPE)
    own = query_tile(at, heads, STEPS[0], SHAPE)
    own_channels = channel_tile(at, heads, inner, STEPS[1], SHAPE)
    dense = query_tile(at, heads, DENSE, SHAPE)
    dense_channels = channel_tile(at, heads, inner, WIDTH, SHAPE)
    for step in range(tl.minimum(rows_each, rows - block * rows_each)):
        row = block * rows_each + step
        windows = seeing_of(row, extent, count, WINDOW)
        token = row.to(tl.int64) * extent[2]
        held = ()
        loaded = ()
        for r in tl.static_range(TOKENS):
            exist = in_row(own, r, extent[2])
            line = values + token * STEPS[1]
            held = held + (load_channels(line, own_channels, exist, r, STEPS[1], KIND),)
            for q in tl.static_range(QUERIES):
                line = scores + token * STEPS[0]
                score = load_query(line, own, exist, r, float("-inf"), q, STEPS[0], SHAPE, KIND)
                loaded = loaded + (score,)
        to_values = (tl.full([BLOCK[1], BLOCK[2], BLOCK[3]], 0, KIND),) * TOKENS
        to_scores = (tl.full([BLOCK[1], BLOCK[2]], 0, KIND),) * (QUERIES * TOKENS)
        for index in range(windows[0]):
            offset, terms, to_values, to_scores = _seeing_terms(
                grad, log_sum, products, excess, (bias, scale), held, loaded, to_values,
                to_scores, windows, tile, channels, index, heads, count, WINDOW, SHAPE, BLOCK,
                KIND, EXACT,
            )  # fmt: skip
            add_terms(shares, place, offset, heads, terms, WINDOW, SHAPE)
        for r in tl.static_range(TOKENS):
            exist = in_row(own, r, extent[2])
            line = grad_values + token * WIDTH
            store_channels(line, dense_channels, exist, r, to_values[r], SHAPE)
            for q in tl.static_range(QUERIES):
                line = grad_scores + token * DENSE
                store_query(line, dense, exist, r, to_scores[r * QUERIES + q], q, SHAPE)
