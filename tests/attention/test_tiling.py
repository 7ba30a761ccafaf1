"""Tiles hold every allowed pair exactly once and see no other, whatever the mask and the block size."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transfuse.attention import Request
from transfuse.masks import Mask, parse
from transfuse.testing import strategies
from transfuse_tiles.backend import Tiles
from transfuse_tiles.plan import lower
from transfuse_tiles.tiling import Tiling, tiling


def counted(tiles: Tiling, rows: int, keys: int) -> np.ndarray:
    """How often each pair is computed and not masked."""
    count = np.zeros((rows, keys), int)
    one = tiles.singles
    for t in range(len(one.n)):
        queries = one.query[t] + np.arange(one.n[t])
        at, m = one.keys_at[t], one.m[t]
        seen = one.keys[at : at + m] if one.key[t] < 0 else one.key[t] + np.arange(m)
        wide = one.p1[t] - one.p0[t]
        sees = np.ones((one.n[t], m), bool)
        part = one.bias[one.bias_at[t] : one.bias_at[t] + one.n[t] * wide]
        sees[:, one.p0[t] : one.p1[t]] = part.reshape(one.n[t], wide) == 0
        add(count, queries, seen, sees, np.ones(one.n[t], bool))
    for batch in tiles.batches:
        B, n, m = batch.B, batch.n, batch.m
        queries = np.arange(batch.query, batch.query + B * n) if batch.queries is None else batch.queries
        seen = np.arange(batch.key, batch.key + B * m) if batch.keys is None else batch.keys
        sees = np.ones((B, n, m), bool)
        if batch.bias is not None:
            p0, p1 = batch.partial
            sees[:, :, p0:p1] = batch.bias == 0
        real = np.ones((B, n), bool) if batch.real_rows is None else batch.real_rows
        for b in range(B):
            add(count, queries.reshape(B, n)[b], seen.reshape(B, m)[b], sees[b], real[b])
    for batch in tiles.gathered:
        B, n = batch.B, batch.n
        queries = np.arange(batch.query, batch.query + B * n) if batch.queries is None else batch.queries
        sees = np.ones((B, n, n), bool) if batch.bias is None else batch.bias == 0
        real = np.ones((B, n), bool) if batch.real_rows is None else batch.real_rows
        for b in range(B):
            own = queries.reshape(B, n)[b]
            add(count, own, own, np.broadcast_to(sees, (B, n, n))[b], real[b])
    return count


def add(count: np.ndarray, queries: np.ndarray, keys: np.ndarray, sees: np.ndarray, real: np.ndarray) -> None:
    assert sees.any(1).all(), "every row of a tile sees something, so that nothing is NaN"
    i, j = np.nonzero(sees & real[:, None])
    np.add.at(count, (queries[i], keys[j]), 1)


@given(
    strategies.masks(),
    strategies.columns(max_size=24),
    strategies.columns(max_size=24),
    st.integers(1, 9),
    st.sampled_from([0, 20, 10000]),
    st.booleans(),
)
def test_every_allowed_pair_is_in_exactly_one_tile(
    mask: Mask, queries: dict, keys: dict, block: int, small: int, whole: bool
) -> None:
    for other, own in ((None, False), (None, True), (keys, False)):
        allowed = mask.allowed(queries, other)
        tiles = tiling(mask.slices(queries, other), block, small, whole, own)
        assert (counted(tiles, *allowed.shape) == allowed).all()


@settings(max_examples=60)
@given(
    strategies.masks(),
    strategies.columns(max_size=24),
    strategies.columns(max_size=24),
    st.sampled_from([0, 20, 10000]),
    st.booleans(),
)
def test_output_and_gradients(mask: Mask, queries: dict, keys: dict, small: int, keep: bool) -> None:
    allowed = mask.dense(queries, keys)
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, len(queries["idx"]), 8), (2, len(keys["idx"]), 8), (2, len(keys["idx"]), 8)]
    q, k, v = (torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes)
    scores = (q @ k.repeat_interleave(2, 0).mT / 8**0.5).masked_fill(~allowed, -1e30)
    expected = (scores.softmax(-1) * allowed) @ v.repeat_interleave(2, 0)
    request = Request(q.device, q.dtype, 4, 2, 8, q.shape[1], k.shape[1])
    plan = lower(tiling(mask.slices(queries, keys), 6, small), request, 64 if keep else 0)
    out = Tiles().attend(q, k, v, plan)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-13)
    g = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    wanted = torch.autograd.grad(expected, (q, k, v), g)
    got = torch.autograd.grad(out, (q, k, v), g)
    for a, b in zip(wanted, got, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


@st.composite
def rows_of_documents(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Documents of 1 to 16 positions, each with a span or without, and filler behind them or not."""
    doc, span = [], []
    for number, n in enumerate(draw(st.lists(st.integers(1, 16), min_size=1, max_size=6))):
        start = draw(st.integers(0, n))
        stop = draw(st.integers(start, n))
        doc += [number] * n
        span += [number if start <= i < stop else -1 for i in range(n)]
    filler = draw(st.integers(0, 3))
    doc, span = np.array(doc + [-1] * filler), np.array(span + [-1] * filler)
    return {"doc": doc, "span": span, "idx": np.arange(len(doc))}


@settings(max_examples=60)
@given(rows_of_documents(), st.sampled_from([4, 9]), st.booleans(), st.booleans(), st.sampled_from([1, 2]))
def test_documents_that_see_only_themselves(
    columns: dict, block: int, keep: bool, side_by_side: bool, groups: int
) -> None:
    """Gathered or in tiles, kept or computed again, queries, keys and values in one tensor or not: the same."""
    H, T, d = 4, len(columns["doc"]), 8
    mask = parse("same(doc) & (le(idx) | same(span))")
    heads = [H, H // groups, H // groups]
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(T, sum(heads), d, dtype=torch.float64, generator=generator)
    q, k, v = (x.transpose(0, 1) for x in made.split(heads, 1))
    if not side_by_side:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    q, k, v = inputs
    allowed = mask.dense(columns)
    scores = (q @ k.repeat_interleave(groups, 0).mT / d**0.5).masked_fill(~allowed, -1e30)
    expected = (scores.softmax(-1) * allowed) @ v.repeat_interleave(groups, 0)
    request = Request(q.device, q.dtype, H, H // groups, d, T, T)
    tiles = tiling(mask.slices(columns), block, 20, own=True)
    assert tiles.gathered or max(np.bincount(columns["doc"][columns["doc"] >= 0])) > 2 * block
    out = Tiles().attend(q, k, v, lower(tiles, request, 64 if keep else 0))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-13)
    g = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    wanted, got = (torch.autograd.grad(y, inputs, g) for y in (expected, out))
    for a, b in zip(wanted, got, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
