"""Decoding with the cache equals attention over the whole sequence: append, overwrite, commit, exchange."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transfuse import masks
from transfuse.attention import KVCache, attend
from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.testing import strategies

MASK = masks.parse("same(doc) & (le(idx) | same(span))")
SPAN = np.array([-1] * 5 + [0] * 4 + [-1] * 3)
STEPS = ((0, 4, 1), (4, 5, 1), (5, 9, 2), (9, 10, 1), (10, 12, 1))
"""From where to where, and how often: text, then a span that is denoised twice, then text."""


def cached(
    mask: Mask, cache: KVCache, streams: list[int], qkv: tuple[Tensor, Tensor, Tensor], columns: dict
) -> list[Tensor]:
    """What attention gives in each step, in one layer; q, k and v are [S, H or G, T, d]."""
    outputs, out = [], torch.empty(0)
    for start, end, rounds in STEPS:
        n = end - start
        blocks = [(stream, 1, n) for stream in streams]
        flat = {name: np.tile(values[start:end], len(streams)) for name, values in columns.items()}
        plan = cache.plan(blocks, flat)
        for step in range(rounds):
            here = [x[:, :, start:end].transpose(0, 1).flatten(1, 2) for x in qkv]
            if step < rounds - 1:
                here = [torch.randn_like(x) for x in here]
            out = cache.attend(0, plan, *here)
        cache.commit(plan)
        outputs.append(out.unflatten(1, (len(streams), n)).transpose(0, 1))
    return outputs


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("streams", [[0, 2], [1], [2, 0, 1]])
def test_text_then_two_denoising_steps_then_text_equals_one_pass(kv_heads: int, streams: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(len(streams), h, 12, 8, generator=generator) for h in (4, kv_heads, kv_heads))
    columns = {"span": SPAN, "idx": np.arange(12), "doc": np.zeros(12, np.int64)}
    cache = KVCache(MASK, 1, kv_heads, 8, streams=3, capacity=12)
    outputs = torch.cat(cached(MASK, cache, streams, (q, k, v), columns), dim=2)
    for s in range(len(streams)):
        expected = attend(q[s], k[s], v[s], mask=MASK, columns=columns, backend="dense")
        torch.testing.assert_close(outputs[s], expected)
    assert cache.length.tolist() == [12 if stream in streams else 0 for stream in range(3)]


@given(mask=strategies.masks(names=("a", "b")), columns=strategies.columns(12, names=("a", "b")))
def test_any_mask_over_any_columns_is_that_mask_over_what_is_held(mask: Mask, columns: dict) -> None:
    """Of what a step may see: all that stands before it, and itself; and nothing is 0."""
    q, k, v = torch.randn(3, 1, 2, 12, 8, generator=torch.Generator().manual_seed(1))
    cache = KVCache(mask, 1, 2, 8, streams=1, capacity=12)
    outputs = cached(mask, cache, [0], (q, k, v), columns)
    for (start, end, _), out in zip(STEPS, outputs, strict=True):
        of = {name: values[start:end] for name, values in columns.items()}
        held = {name: values[:end] for name, values in columns.items()}
        expected = attend(
            q[0, :, start:end],
            k[0, :, :end],
            v[0, :, :end],
            mask=mask,
            columns=of,
            key_columns=held,
            backend="dense",
        )
        torch.testing.assert_close(out[0], expected)


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4), n=st.integers(1, 3), data=st.data())
def test_what_a_stream_sees_does_not_depend_on_the_others(
    lengths: list[int], n: int, data: st.DataObject
) -> None:
    """Each alone in a cache of its own size, and as one of several that have been exchanged."""
    generator = torch.Generator().manual_seed(2)
    S = len(lengths)
    k, v = torch.randn(2, S, 2, 40, 8, generator=generator)
    q = torch.randn(S, 2, n, 8, generator=generator)

    def filled(which: list[int], capacity: int) -> KVCache:
        cache = KVCache(MASK, 1, 2, 8, streams=len(which), capacity=capacity)
        for row, i in enumerate(which):
            blocks = [(row, 1, lengths[i])]
            if lengths[i]:
                plan = cache.plan(blocks, {"span": np.full(lengths[i], -1)})
                cache.attend(0, plan, k[i, :, : lengths[i]], k[i, :, : lengths[i]], v[i, :, : lengths[i]])
                cache.commit(plan)
        return cache

    def step(cache: KVCache, order: list[int]) -> Tensor:
        plan = cache.plan([(0, len(order), n)], {"span": np.full(len(order) * n, -1)})
        new = [torch.cat([x[i] for i in order], dim=1) for x in (q, k[:, :, -n:], v[:, :, -n:])]
        return cache.attend(0, plan, *new).unflatten(1, (len(order), n)).transpose(0, 1)

    cache, order = filled(list(range(S)), 40), list(range(S))
    a, b = (data.draw(st.integers(0, S - 1)) for _ in range(2))
    if a != b:
        cache.swap([a], [b])
        order[a], order[b] = order[b], order[a]
    together = step(cache, order)
    for row, i in enumerate(order):
        alone = step(filled([i], lengths[i] + n), [i])
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-6)


def test_a_full_stream_is_named() -> None:
    cache = KVCache(MASK, 1, 1, 4, streams=2, capacity=4)
    cache.commit(cache.plan([(1, 1, 3)], {"span": np.full(3, -1)}))
    with pytest.raises(TransfuseError, match="stream 1 holds 3 of 4 positions and has no room for 2 more"):
        cache.plan([(0, 2, 2)], {"span": np.full(4, -1)})
