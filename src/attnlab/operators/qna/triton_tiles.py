"""Geometry, loads and stores of the fused window sums.

A program computes rows of tokens for a block of heads. Each of its lanes holds several neighbours
in a row, its tokens, so that what is loaded once serves all of them; which entry of whose window
that is, is settled when a kernel is compiled (`columns`, `entry`).

Token n of a tensor starts at element ``n * step``, its channels densely packed behind it. What is
constant has capitals: WINDOW is (size, stride, before, dilation) with three axes each, SHAPE
(queries, heads, head_dim), STEPS those of scores and values, BLOCK (tokens, lanes, heads,
channels), the last three powers of two, KIND the type of all arithmetic. A tile is a block's
tokens, ``[lanes, 1]``, whether its heads and channels exist, and where it lies in a row.
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# Triton's language has no types that mypy knows, and no starred expressions.

import torch
import triton
import triton.language as tl

KINDS = {torch.float32: tl.float32, torch.float64: tl.float64}
# exp2 and log2 are one to three instructions, exp five and log twenty.
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.constexpr_function
def columns(BLOCK, WINDOW):
    """Return the columns that the windows of a lane's tokens see, from its first token's window."""
    starts = range(0, BLOCK[0] * WINDOW[1][2], WINDOW[1][2])
    entries = range(0, WINDOW[0][2] * WINDOW[3][2], WINDOW[3][2])
    return sorted({start + at for start in starts for at in entries})


@triton.constexpr_function
def entry(column, token, WINDOW):
    """Return which entry of the window of a lane's token is at a column, or -1."""
    index, rest = divmod(column - token * WINDOW[1][2], WINDOW[3][2])
    return index if rest == 0 and index < WINDOW[0][2] else -1


@triton.jit
def put(items, at: tl.constexpr, item):
    """Return the tuple with one item replaced."""
    return items[:at] + (item,) + items[at + 1 :]


@triton.jit
def blocks(width, SHAPE: tl.constexpr, BLOCK: tl.constexpr):
    """Return the first token of each lane, heads, channels, the block of rows and the slice.

    Programs of one slice differ in their heads alone.
    """
    head_blocks = tl.cdiv(SHAPE[1], BLOCK[2])
    x_blocks = tl.cdiv(width, BLOCK[0] * BLOCK[1])
    program = tl.program_id(0)
    heads = (program % head_blocks) * BLOCK[2] + tl.arange(0, BLOCK[2])
    place = program // head_blocks
    lanes = (place % x_blocks) * BLOCK[1] + tl.arange(0, BLOCK[1])
    return lanes * BLOCK[0], heads, tl.arange(0, BLOCK[3]), place // x_blocks, place


@triton.jit
def query_tile(x, heads, STEP: tl.constexpr, SHAPE: tl.constexpr):
    """Return the tile of queries at the tokens x of a row, ``[lanes, heads]``."""
    known = (heads < SHAPE[1])[None, :]
    return x[:, None], known, x[:, None] * STEP + heads[None, :]


@triton.jit
def channel_tile(x, heads, channels, STEP: tl.constexpr, SHAPE: tl.constexpr):
    """Return the tile of channels at the tokens x of a row, ``[lanes, heads, channels]``."""
    known = (heads < SHAPE[1])[None, :, None]
    if SHAPE[2] != channels.shape[0]:
        known = known & (channels < SHAPE[2])[None, None, :]
    inner = heads[None, :, None] * SHAPE[2] + channels[None, None, :]
    return x[:, None], known, x[:, None, None] * STEP + inner


@triton.jit
def in_row(tile, column, width):
    """Return whether the tokens of a tile, `column` further on, lie in the row: ``[lanes, 1]``."""
    x = tile[0] + column
    return (x >= 0) & (x < width)


@triton.jit
def load_query(
    row, tile, exist, column, other, QUERY: tl.constexpr, STEP: tl.constexpr,
    SHAPE: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Load ``[lanes, heads]`` of a query, `column` tokens further on, `other` where none exist."""
    # One address per tile: constants added behind it are part of the load instructions.
    places = row + tile[2] + (column * STEP + QUERY * SHAPE[1])
    return tl.load(places, exist & tile[1], other=other).to(KIND)


@triton.jit
def load_channels(row, tile, exist, column, STEP: tl.constexpr, KIND: tl.constexpr):
    """Load ``[lanes, heads, channels]``, `column` tokens further on, 0 where none exist."""
    places = row + tile[2] + column * STEP
    return tl.load(places, exist[:, :, None] & tile[1], other=0.0).to(KIND)


@triton.jit
def store_query(row, tile, exist, column, item, QUERY: tl.constexpr, SHAPE: tl.constexpr):
    """Store ``[lanes, heads]`` of a query, `column` tokens further on, where they exist."""
    places = row + tile[2] + (column * (SHAPE[0] * SHAPE[1]) + QUERY * SHAPE[1])
    tl.store(places, item, exist & tile[1])


@triton.jit
def store_channels(row, tile, exist, column, item, SHAPE: tl.constexpr):
    """Store ``[lanes, heads, channels]``, `column` tokens further on, where they exist."""
    places = row + tile[2] + column * (SHAPE[1] * SHAPE[2])
    tl.store(places, item, exist[:, :, None] & tile[1])


@triton.jit
def at_entry(table, first, heads, SHAPE: tl.constexpr):
    """Return where a table ``[offsets, queries, heads]`` has the heads of offset `first`."""
    return table + (first * (SHAPE[0] * SHAPE[1]) + heads), heads < SHAPE[1]


@triton.jit
def load_entry(table, ENTRY, QUERY: tl.constexpr, SHAPE: tl.constexpr):
    """Load ``[1, heads]`` from the place of `at_entry`, ENTRY offsets further on."""
    places = table[0] + (ENTRY * SHAPE[0] + QUERY) * SHAPE[1]
    return tl.load(places, table[1], other=0.0)[None, :]


@triton.jit
def inside(start, width, SIZE: tl.constexpr, DILATION: tl.constexpr):
    """Return the first entry inside the grid of a window from token `start`, and how many are."""
    first = (tl.maximum(-start, 0) + DILATION - 1) // DILATION
    end = (tl.maximum(width - start, 0) + DILATION - 1) // DILATION
    return first, tl.maximum(tl.minimum(end, SIZE) - first, 0)


@triton.jit
def windows_of(row, extent, count, WINDOW: tl.constexpr):
    """Return how many rows of tokens the windows of an output row see, and what tells `seen_row`.

    That is the row in which they begin, were the grid endless, the first entry inside the grid of
    both outer axes, and how many of the second.
    """
    frame = row // count[1]
    low_t = (frame % count[0]) * WINDOW[1][0] - WINDOW[2][0]
    low_y = (row % count[1]) * WINDOW[1][1] - WINDOW[2][1]
    begin = ((frame // count[0]).to(tl.int64) * extent[0] + low_t) * extent[1] + low_y
    first_t, many_t = inside(low_t, extent[0], WINDOW[0][0], WINDOW[3][0])
    first_y, many_y = inside(low_y, extent[1], WINDOW[0][1], WINDOW[3][1])
    return many_t * many_y, begin, first_t, first_y, many_y


@triton.jit
def seen_row(index, windows, extent, WINDOW: tl.constexpr):
    """Return the first token of one of the rows that the windows see, and its first offset."""
    _, begin, first_t, first_y, many_y = windows
    t = first_t + index // many_y
    y = first_y + index % many_y
    row = begin + t * WINDOW[3][0] * extent[1] + y * WINDOW[3][1]
    return row * extent[2], (t * WINDOW[0][1] + y) * WINDOW[0][2]


@triton.jit
def add_terms(
    shares, place, offset, heads, terms, WINDOW: tl.constexpr, SHAPE: tl.constexpr
):  # fmt: skip
    """Add the sums over lanes of ``[lanes, heads]`` per query and entry to a program's share.

    No other program adds to it, so that the order is fixed; the addition is left to the cache,
    whose answer nobody waits for.
    """
    SIZE: tl.constexpr = WINDOW[0][2]
    QUERIES: tl.constexpr = SHAPE[0]
    OFFSETS: tl.constexpr = WINDOW[0][0] * WINDOW[0][1] * WINDOW[0][2]
    share = at_entry(shares, place * OFFSETS + offset, heads, SHAPE)
    for q in tl.static_range(QUERIES):
        for v in tl.static_range(SIZE):
            here = share[0] + (v * QUERIES + q) * SHAPE[1]
            tl.atomic_add(here, tl.sum(terms[q * SIZE + v], 0), share[1], sem="relaxed")


@triton.jit
def load_log_sum(
    row, tile, exist, column, QUERY: tl.constexpr, SHAPE: tl.constexpr, KIND: tl.constexpr
):
    """Load logarithms of sums, +inf where there is no window or no token in it."""
    STEP: tl.constexpr = SHAPE[0] * SHAPE[1]
    loaded = load_query(row, tile, exist, column, float("inf"), QUERY, STEP, SHAPE, KIND)
    return tl.where(loaded == float("-inf"), float("inf"), loaded)
