"""The fused dense sums and their gradients by queries and by keys; kappa exists tile by tile.

With d = place(n) - place(m), kappa_nm = sum_r s_nr P_r[d] (times a_nm if MASKED), and g the
gradient of the output::

    y_n = sum_m kappa_nm v_m       ds_nr = sum_m (g_n . v_m) [a_nm] P_r[d]
                                   dv_m  = sum_n kappa_nm g_n

A program keeps its tokens of several samples, for which it looks weights up once.
"""

# mypy: ignore-errors
# ruff: noqa: RUF005
# Triton's language has no types that mypy knows, and no starred expressions.

import triton
import triton.language as tl

from attnlab.operators.lisa.triton_tiles import (
    load_scores,
    load_tokens,
    load_weights,
    multiply,
    places,
    product,
    put,
    store_tokens,
    weigh,
)


@triton.jit
def own(COUNT: tl.constexpr, BLOCK: tl.constexpr, HEADS: tl.constexpr, AXIS: tl.constexpr):
    """Return the first sample of a program, its head, and its tokens."""
    tiles = tl.cdiv(COUNT, BLOCK[AXIS])
    program = tl.program_id(0)
    tokens = (program % tiles) * BLOCK[AXIS] + tl.arange(0, BLOCK[AXIS])
    rest = program // tiles
    return rest // HEADS * BLOCK[2], rest % HEADS, tokens, tokens < COUNT


@triton.jit
def zeros(ROWS: tl.constexpr, COLUMNS: tl.constexpr, MANY: tl.constexpr):
    """Return tiles to add to."""
    return (tl.full([ROWS, COLUMNS], 0, tl.float32),) * MANY


@triton.jit
def mix_kernel(
    scores, values, tables, phi_q, phi_k, out, steps, batch, GRID: tl.constexpr,
    STRIDE: tl.constexpr, SHAPE: tl.constexpr, BLOCK: tl.constexpr, HEADS: tl.constexpr,
    SCORED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Compute the output of some queries of one head in some samples."""
    KEYS: tl.constexpr = product(GRID)
    RPES: tl.constexpr = SHAPE[0]
    SAMPLES: tl.constexpr = BLOCK[2]
    first, head, queries, exist = own(product(places(GRID, STRIDE)), BLOCK, HEADS, 0)
    channels, features = tl.arange(0, BLOCK[3]), tl.arange(0, BLOCK[4])
    held = ()
    asked = ()
    for j in tl.static_range(SAMPLES):
        here = exist & (first + j < batch)
        if SCORED:
            held = held + load_scores(scores, steps[0], first + j, head, queries, here, RPES)
        if MASKED:
            loaded = load_tokens(
                phi_q, steps[2], first + j, head, queries, here, features, SHAPE[2]
            )
            asked = asked + (loaded,)
    sums = zeros(BLOCK[0], BLOCK[3], SAMPLES)
    for start in range(0, KEYS, BLOCK[1]):
        keys = start + tl.arange(0, BLOCK[1])
        weights = load_weights(tables, head, queries, keys, exist, keys < KEYS, GRID, STRIDE, RPES)
        for j in tl.static_range(SAMPLES):
            there = (keys < KEYS) & (first + j < batch)
            value = load_tokens(
                values, steps[1], first + j, head // SHAPE[3], keys, there, channels, SHAPE[1]
            )
            kappa = weigh(held, weights, j, RPES, SCORED)
            if MASKED:
                key = load_tokens(
                    phi_k, steps[3], first + j, head // SHAPE[4], keys, there, features, SHAPE[2]
                )
                kappa *= multiply(asked[j], tl.trans(key))
            sums = put(sums, j, sums[j] + multiply(kappa.to(value.dtype), value))
    for j in tl.static_range(SAMPLES):
        here = exist & (first + j < batch)
        store_tokens(out, steps[4], first + j, head, queries, here, channels, sums[j], SHAPE[1])


@triton.jit
def query_kernel(
    scores, values, tables, phi_q, phi_k, grad, of_scores, of_phi_q, steps, batch,
    GRID: tl.constexpr, STRIDE: tl.constexpr, SHAPE: tl.constexpr, BLOCK: tl.constexpr,
    HEADS: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of the scores and query features of some queries of one head."""
    KEYS: tl.constexpr = product(GRID)
    RPES: tl.constexpr = SHAPE[0]
    SAMPLES: tl.constexpr = BLOCK[2]
    first, head, queries, exist = own(product(places(GRID, STRIDE)), BLOCK, HEADS, 0)
    channels, features = tl.arange(0, BLOCK[3]), tl.arange(0, BLOCK[4])
    held = ()
    asked = ()
    grads = ()
    for j in tl.static_range(SAMPLES):
        here = exist & (first + j < batch)
        item = load_tokens(grad, steps[4], first + j, head, queries, here, channels, SHAPE[1])
        grads = grads + (item,)
        if MASKED:
            held = held + load_scores(scores, steps[0], first + j, head, queries, here, RPES)
            loaded = load_tokens(
                phi_q, steps[2], first + j, head, queries, here, features, SHAPE[2]
            )
            asked = asked + (loaded,)
    sums = (tl.full([BLOCK[0]], 0, tl.float32),) * (SAMPLES * RPES)
    to_features = zeros(BLOCK[0], BLOCK[4], SAMPLES)
    for start in range(0, KEYS, BLOCK[1]):
        keys = start + tl.arange(0, BLOCK[1])
        weights = load_weights(tables, head, queries, keys, exist, keys < KEYS, GRID, STRIDE, RPES)
        for j in tl.static_range(SAMPLES):
            there = (keys < KEYS) & (first + j < batch)
            value = load_tokens(
                values, steps[1], first + j, head // SHAPE[3], keys, there, channels, SHAPE[1]
            )
            of_kappa = multiply(grads[j], tl.trans(value))
            if MASKED:
                key = load_tokens(
                    phi_k, steps[3], first + j, head // SHAPE[4], keys, there, features, SHAPE[2]
                )
                of_attention = of_kappa * weigh(held, weights, j, RPES, True)
                added = multiply(of_attention.to(key.dtype), key)
                to_features = put(to_features, j, to_features[j] + added)
                of_kappa *= multiply(asked[j], tl.trans(key))
            for r in tl.static_range(RPES):
                total = sums[j * RPES + r] + tl.sum(of_kappa * weights[r], 1)
                sums = put(sums, j * RPES + r, total)
    for j in tl.static_range(SAMPLES):
        here = exist & (first + j < batch)
        base = of_scores + (first + j).to(tl.int64) * steps[5][0] + head * steps[5][1]
        for r in tl.static_range(RPES):
            tl.store(base + queries * steps[5][2] + r, sums[j * RPES + r], here)
        if MASKED:
            store_tokens(
                of_phi_q, steps[6], first + j, head, queries, here, features, to_features[j],
                SHAPE[2],
            )  # fmt: skip


@triton.jit
def key_kernel(
    scores, values, tables, phi_q, phi_k, grad, of_values, of_phi_k, steps, batch,
    GRID: tl.constexpr, STRIDE: tl.constexpr, SHAPE: tl.constexpr, BLOCK: tl.constexpr,
    HEADS: tl.constexpr, SCORED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Compute, from one head, the gradients of the values and key features of some keys."""
    KEYS: tl.constexpr = product(GRID)
    QUERIES: tl.constexpr = product(places(GRID, STRIDE))
    RPES: tl.constexpr = SHAPE[0]
    SAMPLES: tl.constexpr = BLOCK[2]
    first, head, keys, exist = own(KEYS, BLOCK, HEADS, 1)
    channels, features = tl.arange(0, BLOCK[3]), tl.arange(0, BLOCK[4])
    held = ()
    known = ()
    if MASKED:
        for j in tl.static_range(SAMPLES):
            here = exist & (first + j < batch)
            loaded = load_tokens(
                values, steps[1], first + j, head // SHAPE[3], keys, here, channels, SHAPE[1]
            )
            held = held + (loaded,)
            loaded = load_tokens(
                phi_k, steps[3], first + j, head // SHAPE[4], keys, here, features, SHAPE[2]
            )
            known = known + (loaded,)
    sums = zeros(BLOCK[1], BLOCK[3], SAMPLES)
    to_features = zeros(BLOCK[1], BLOCK[4], SAMPLES)
    for start in range(0, QUERIES, BLOCK[0]):
        queries = start + tl.arange(0, BLOCK[0])
        weights = load_weights(
            tables, head, queries, keys, queries < QUERIES, exist, GRID, STRIDE, RPES
        )
        for j in tl.static_range(SAMPLES):
            there = (queries < QUERIES) & (first + j < batch)
            asked = ()
            if SCORED:
                asked = load_scores(scores, steps[0], first + j, head, queries, there, RPES)
            item = load_tokens(grad, steps[4], first + j, head, queries, there, channels, SHAPE[1])
            kappa = weigh(asked, weights, 0, RPES, SCORED)
            if MASKED:
                query = load_tokens(
                    phi_q, steps[2], first + j, head, queries, there, features, SHAPE[2]
                )
                of_attention = kappa * multiply(item, tl.trans(held[j]))
                added = multiply(tl.trans(of_attention.to(query.dtype)), query)
                to_features = put(to_features, j, to_features[j] + added)
                kappa *= multiply(query, tl.trans(known[j]))
            sums = put(sums, j, sums[j] + multiply(tl.trans(kappa.to(item.dtype)), item))
    for j in tl.static_range(SAMPLES):
        here = exist & (first + j < batch)
        store_tokens(of_values, steps[5], first + j, head, keys, here, channels, sums[j], SHAPE[1])
        if MASKED:
            store_tokens(
                of_phi_k, steps[6], first + j, head, keys, here, features, to_features[j],
                SHAPE[2],
            )  # fmt: skip
