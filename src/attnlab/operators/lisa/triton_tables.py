"""The gradient of the tables of the fused dense sums, without atomic operations.

For one offset between rows of the grid, a program adds up, over all pairs of rows that far apart
and its share of the samples, ``G_r[x, x'] = s_nr (g_n . v_m) [a_nm]`` for the columns x of the
queries and x' of the keys. The sum along the diagonals of G, which is left to the caller, is the
gradient of the table's row at that offset.
"""

# mypy: ignore-errors
# Triton's language has no types that mypy knows, and no starred expressions.

import triton
import triton.language as tl

from attnlab.operators.lisa.triton_tiles import (
    load_scores,
    load_tokens,
    multiply,
    places,
    put,
)


@triton.jit
def pairs(offset, SIZE: tl.constexpr, COUNT: tl.constexpr, STRIDE: tl.constexpr):
    """Return the first query on an axis with a key `offset` before it, and how many there are."""
    first = (tl.maximum(offset, 0) + STRIDE - 1) // STRIDE
    end = tl.minimum(tl.cdiv(tl.minimum(SIZE + offset, SIZE), STRIDE), COUNT)
    return first, tl.maximum(end - first, 0)


@triton.jit
def table_kernel(
    scores, values, phi_q, phi_k, grad, shares, steps, batch, each, GRID: tl.constexpr,
    STRIDE: tl.constexpr, SHAPE: tl.constexpr, BLOCK: tl.constexpr, HEADS: tl.constexpr,
    SCORED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Compute G for one offset between rows, from `each` samples.

    BLOCK is (query columns, key columns, 1, channels, features), shares
    ``[shares, heads, query columns, rpes, offsets, key columns]`` with the offsets backwards.
    """
    COUNT: tl.constexpr = places(GRID, STRIDE)
    RPES: tl.constexpr = SHAPE[0]
    OFFSETS: tl.constexpr = (2 * GRID[0] - 1) * (2 * GRID[1] - 1)
    tiles = tl.cdiv(GRID[2], BLOCK[1])
    program = tl.program_id(0)
    key_x = (program % tiles) * BLOCK[1] + tl.arange(0, BLOCK[1])
    program = program // tiles
    tiles = tl.cdiv(COUNT[2], BLOCK[0])
    query_x = (program % tiles) * BLOCK[0] + tl.arange(0, BLOCK[0])
    program = program // tiles
    offset = program % OFFSETS
    head = program // OFFSETS % HEADS
    share = program // (OFFSETS * HEADS)
    dt = offset // (2 * GRID[1] - 1) - (GRID[0] - 1)
    dy = offset % (2 * GRID[1] - 1) - (GRID[1] - 1)
    first_t, many_t = pairs(dt, GRID[0], COUNT[0], STRIDE)
    first_y, many_y = pairs(dy, GRID[1], COUNT[1], STRIDE)
    channels, features = tl.arange(0, BLOCK[3]), tl.arange(0, BLOCK[4])
    sums = (tl.full([BLOCK[0], BLOCK[1]], 0, tl.float32),) * RPES
    samples = tl.minimum(each, batch - share * each)
    rows = many_t * many_y
    for index in range(samples * rows):
        sample = share * each + index // rows
        t = first_t + index % rows // many_y
        y = first_y + index % rows % many_y
        queries = (t * COUNT[1] + y) * COUNT[2] + query_x
        keys = ((t * STRIDE - dt) * GRID[1] + y * STRIDE - dy) * GRID[2] + key_x
        here, there = query_x < COUNT[2], key_x < GRID[2]
        item = load_tokens(grad, steps[4], sample, head, queries, here, channels, SHAPE[1])
        value = load_tokens(
            values, steps[1], sample, head // SHAPE[3], keys, there, channels, SHAPE[1]
        )
        of_kappa = multiply(item, tl.trans(value))
        if MASKED:
            query = load_tokens(phi_q, steps[2], sample, head, queries, here, features, SHAPE[2])
            key = load_tokens(
                phi_k, steps[3], sample, head // SHAPE[4], keys, there, features, SHAPE[2]
            )
            of_kappa *= multiply(query, tl.trans(key))
        if SCORED:
            held = load_scores(scores, steps[0], sample, head, queries, here, RPES)
            for r in tl.static_range(RPES):
                sums = put(sums, r, sums[r] + held[r][:, None] * of_kappa)
        else:
            sums = put(sums, 0, sums[0] + of_kappa)
    exist = (query_x < COUNT[2])[:, None] & (key_x < GRID[2])[None, :]
    line = (share * HEADS + head).to(tl.int64) * COUNT[2] + query_x
    for r in tl.static_range(RPES):
        row = (line * RPES + r) * OFFSETS + (OFFSETS - 1 - offset)
        tl.store(shares + row[:, None] * GRID[2] + key_x[None, :], sums[r], exist)
