"""Tiles of the fused dense sums: tokens, weights looked up by offset, and scores.

Token n of a strided tensor ``[batch, heads, tokens, channels]`` lies at steps from the first, its
channels densely packed. Places are numbered so that the entry of a table for query n and key m is
``place(n) - place(m)`` from its middle: no N x N array of weights or of indices exists.

What is constant has capitals: GRID is that of the keys with three axes, STRIDE the step between
queries, SHAPE (rpes, value_dim, features, heads to a value head, heads to a group of keys), BLOCK
(queries, keys, samples, channels, features) of a program, all powers of two. SCORED says of what
a tile of weights is made: of all rpes weighted by scores, or, without scores, of one table.
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# Triton's language has no types that mypy knows, and no starred expressions.

import triton
import triton.language as tl


@triton.constexpr_function
def places(GRID, STRIDE):
    """Return the number of queries on each axis."""
    return tuple((size + STRIDE - 1) // STRIDE for size in GRID)


@triton.constexpr_function
def product(sizes):
    """Return the product of all sizes."""
    total = 1
    for size in sizes:
        total *= size
    return total


@triton.constexpr_function
def entries(GRID):
    """Return how many entries a table has."""
    return product(tuple(2 * size - 1 for size in GRID))


@triton.jit
def put(items, at: tl.constexpr, item):
    """Return the tuple with one item replaced."""
    return items[:at] + (item,) + items[at + 1 :]


@triton.jit
def place(token, GRID: tl.constexpr, STRIDE: tl.constexpr):
    """Return the place of a query, or with stride 1 of a key, in steps through a table."""
    COUNT: tl.constexpr = places(GRID, STRIDE)
    x = token % COUNT[2]
    y = token // COUNT[2] % COUNT[1]
    t = token // (COUNT[2] * COUNT[1])
    return ((t * (2 * GRID[1] - 1) + y) * (2 * GRID[2] - 1) + x) * STRIDE


@triton.jit
def load_tokens(tensor, steps, sample, head, tokens, exist, channels, WIDTH: tl.constexpr):
    """Load ``[tokens, channels]`` of a head, 0 where none exist."""
    base = tensor + sample.to(tl.int64) * steps[0] + head * steps[1]
    where = tokens[:, None] * steps[2] + channels[None, :]
    return tl.load(base + where, exist[:, None] & (channels < WIDTH)[None, :], other=0.0)


@triton.jit
def store_tokens(tensor, steps, sample, head, tokens, exist, channels, item, WIDTH: tl.constexpr):
    """Store ``[tokens, channels]`` of a head where they exist."""
    base = tensor + sample.to(tl.int64) * steps[0] + head * steps[1]
    where = tokens[:, None] * steps[2] + channels[None, :]
    known = exist[:, None] & (channels < WIDTH)[None, :]
    tl.store(base + where, item.to(tensor.dtype.element_ty), known)


@triton.jit
def load_scores(scores, steps, sample, head, tokens, exist, RPES: tl.constexpr):
    """Load the scores of tokens, a vector for each RPE, 0 where none exist."""
    base = scores + sample.to(tl.int64) * steps[0] + head * steps[1]
    loaded = ()
    for r in tl.static_range(RPES):
        score = tl.load(base + tokens * steps[2] + r, exist, other=0.0).to(tl.float32)
        loaded = loaded + (score,)
    return loaded


@triton.jit
def load_weights(
    tables, head, queries, keys, exist_queries, exist_keys, GRID: tl.constexpr,
    STRIDE: tl.constexpr, RPES: tl.constexpr,
):  # fmt: skip
    """Look up ``[queries, keys]`` of each RPE, 0 where none exist."""
    ENTRIES: tl.constexpr = entries(GRID)
    offset = place(queries, GRID, STRIDE)[:, None] - place(keys, GRID, 1)[None, :]
    exist = exist_queries[:, None] & exist_keys[None, :]
    base = tables + head.to(tl.int64) * (RPES * ENTRIES) + ENTRIES // 2
    loaded = ()
    for r in tl.static_range(RPES):
        loaded = loaded + (tl.load(base + r * ENTRIES + offset, exist, other=0.0).to(tl.float32),)
    return loaded


@triton.jit
def weigh(scores, weights, at: tl.constexpr, RPES: tl.constexpr, SCORED: tl.constexpr):
    """Return the sum of the weights by the scores of one sample: a tile of the structure."""
    if SCORED:
        total = scores[at * RPES][:, None] * weights[0]
        for r in tl.static_range(1, RPES):
            total += scores[at * RPES + r][:, None] * weights[r]
    else:
        total = weights[0]
    return total


@triton.jit
def multiply(left, right):
    """Return the matrix product in float32; of float32 as exact as float32."""
    return tl.dot(left, right, input_precision="tf32x3", out_dtype=tl.float32)
