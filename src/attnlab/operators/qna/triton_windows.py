"""The backward of the fused window sums over windows, without atomic operations.

With p the attention of a query, g the gradient of the output and g.v its product with a value
over a head's channels, every window leaves ``product_i = sum_n scale p (g.v)`` for the kernel over
tokens, and ``sum_i p (g.v)`` is the gradient of scale: every program adds to a share of its own.
p is computed anew, from the logarithm of the sum, which no score can make overflow.
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
    columns,
    entry,
    in_row,
    load_channels,
    load_entry,
    load_log_sum,
    load_query,
    put,
    query_tile,
    seen_row,
    store_query,
    windows_of,
)


@triton.jit
def _excess(
    scores, bias, sums, windows, tile, heads, extent, WINDOW: tl.constexpr, SHAPE: tl.constexpr,
    STEPS: tl.constexpr, BLOCK: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Return the logarithms of what attention computed from `sums` adds up to, 0 but for rounding.

    A logarithm in the hundreds is rounded so far that the gradients' cancellation would show it.
    """
    COLUMNS: tl.constexpr = columns(BLOCK, WINDOW)
    QUERIES: tl.constexpr = SHAPE[0]
    TOKENS: tl.constexpr = BLOCK[0]
    totals = (tl.full([BLOCK[1], BLOCK[2]], 0, KIND),) * (QUERIES * TOKENS)
    for index in range(windows[0]):
        token, offset = seen_row(index, windows, extent, WINDOW)
        row = scores + token * STEPS[0]
        biases = at_entry(bias, offset, heads, SHAPE)
        for j in tl.static_range(len(COLUMNS)):
            exist = in_row(tile, COLUMNS[j], extent[2])
            for q in tl.static_range(QUERIES):
                score = load_query(
                    row, tile, exist, COLUMNS[j], float("-inf"), q, STEPS[0], SHAPE, KIND
                )
                for r in tl.static_range(TOKENS):
                    if entry(COLUMNS[j], r, WINDOW) >= 0:
                        added = load_entry(biases, entry(COLUMNS[j], r, WINDOW), q, SHAPE)
                        logit = score - sums[r * QUERIES + q] + added
                        total = totals[r * QUERIES + q] + tl.exp2(logit * LOG2_E)
                        totals = put(totals, r * QUERIES + q, total)
    beyond = ()
    for index_of in tl.static_range(QUERIES * TOKENS):
        total = totals[index_of]
        beyond = beyond + (tl.log(tl.where(total > 0.0, total, 1.0)),)
    return beyond


@triton.jit
def _of_window(
    terms, totals, product, scores, sums, beyond, biases, scales, ENTRY: tl.constexpr,
    TOKEN: tl.constexpr, SIZE: tl.constexpr, SHAPE: tl.constexpr,
):  # fmt: skip
    """Add what one entry of the window of one of the tokens gives."""
    QUERIES: tl.constexpr = SHAPE[0]
    for q in tl.static_range(QUERIES):
        added = load_entry(biases, ENTRY, q, SHAPE) - beyond[TOKEN * QUERIES + q]
        logit = scores[q] - sums[TOKEN * QUERIES + q] + added
        term = tl.exp2(logit * LOG2_E) * product
        terms = put(terms, q * SIZE + ENTRY, terms[q * SIZE + ENTRY] + term)
        term = load_entry(scales, ENTRY, q, SHAPE) * term
        totals = put(totals, TOKEN * QUERIES + q, totals[TOKEN * QUERIES + q] + term)
    return terms, totals


@triton.jit
def _seen_terms(
    scores, values, tables, grads, sums, beyond, totals, windows, tile, channels, index,
    heads, extent, WINDOW: tl.constexpr, SHAPE: tl.constexpr, STEPS: tl.constexpr,
    BLOCK: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Return what one of the rows that the windows see gives: terms, and totals with them."""
    COLUMNS: tl.constexpr = columns(BLOCK, WINDOW)
    SIZE: tl.constexpr = WINDOW[0][2]
    QUERIES: tl.constexpr = SHAPE[0]
    TOKENS: tl.constexpr = BLOCK[0]
    token, offset = seen_row(index, windows, extent, WINDOW)
    biases = at_entry(tables[0], offset, heads, SHAPE)
    scales = at_entry(tables[1], offset, heads, SHAPE)
    terms = (tl.full([BLOCK[1], BLOCK[2]], 0, KIND),) * (QUERIES * SIZE)
    for j in tl.static_range(len(COLUMNS)):
        exist = in_row(tile, COLUMNS[j], extent[2])
        row = values + token * STEPS[1]
        value = load_channels(row, channels, exist, COLUMNS[j], STEPS[1], KIND)
        loaded = ()
        for q in tl.static_range(QUERIES):
            score = load_query(
                scores + token * STEPS[0], tile, exist, COLUMNS[j], float("-inf"), q, STEPS[0],
                SHAPE, KIND,
            )  # fmt: skip
            loaded = loaded + (score,)
        for r in tl.static_range(TOKENS):
            if entry(COLUMNS[j], r, WINDOW) >= 0:
                terms, totals = _of_window(
                    terms, totals, tl.sum(grads[r] * value, 2), loaded, sums, beyond, biases,
                    scales, entry(COLUMNS[j], r, WINDOW), r, SIZE, SHAPE,
                )  # fmt: skip
    return offset, terms, totals


@triton.jit(do_not_specialize=["rows", "rows_each"])
def window_kernel(
    grad, scores, values, bias, scale, log_sum, products, excess, shares, rows, rows_each,
    extent, count, WINDOW: tl.constexpr, SHAPE: tl.constexpr, STEPS: tl.constexpr,
    BLOCK: tl.constexpr, KIND: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Compute the products of rows of windows, and a share of the gradient of scale."""
    QUERIES: tl.constexpr = SHAPE[0]
    TOKENS: tl.constexpr = BLOCK[0]
    WIDTH: tl.constexpr = SHAPE[1] * SHAPE[2]
    at, heads, inner, block, place = blocks(count[2], SHAPE, BLOCK)
    x = at * WINDOW[1][2] - WINDOW[2][2]
    tile = query_tile(x, heads, STEPS[0], SHAPE)
    channels = channel_tile(x, heads, inner, STEPS[1], SHAPE)
    own = query_tile(at, heads, QUERIES * SHAPE[1], SHAPE)
    own_channels = channel_tile(at, heads, inner, WIDTH, SHAPE)
    for step in range(tl.minimum(rows_each, rows - block * rows_each)):
        row = block * rows_each + step
        windows = windows_of(row, extent, count, WINDOW)
        first = row.to(tl.int64) * count[2]
        grads = ()
        sums = ()
        for r in tl.static_range(TOKENS):
            exist = in_row(own, r, count[2])
            item = load_channels(grad + first * WIDTH, own_channels, exist, r, WIDTH, KIND)
            grads = grads + (item,)
            for q in tl.static_range(QUERIES):
                line = log_sum + first * (QUERIES * SHAPE[1])
                sums = sums + (load_log_sum(line, own, exist, r, q, SHAPE, KIND),)
        beyond = (0.0,) * (QUERIES * TOKENS)
        if EXACT:
            beyond = _excess(
                scores, bias, sums, windows, tile, heads, extent, WINDOW, SHAPE, STEPS, BLOCK, KIND
            )
        totals = (tl.full([BLOCK[1], BLOCK[2]], 0, KIND),) * (QUERIES * TOKENS)
        for index in range(windows[0]):
            offset, terms, totals = _seen_terms(
                scores, values, (bias, scale), grads, sums, beyond, totals, windows, tile,
                channels, index, heads, extent, WINDOW, SHAPE, STEPS, BLOCK, KIND,
            )  # fmt: skip
            add_terms(shares, place, offset, heads, terms, WINDOW, SHAPE)
        for r in tl.static_range(TOKENS):
            exist = in_row(own, r, count[2])
            for q in tl.static_range(QUERIES):
                line = products + first * (QUERIES * SHAPE[1])
                store_query(line, own, exist, r, totals[r * QUERIES + q], q, SHAPE)
                if EXACT:
                    line = excess + first * (QUERIES * SHAPE[1])
                    store_query(line, own, exist, r, beyond[r * QUERIES + q], q, SHAPE)
