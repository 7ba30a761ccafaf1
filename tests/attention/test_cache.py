"""Decoding with the cache equals attention over the whole sequence: append, overwrite, commit."""

import numpy as np
import pytest
import torch
from transfuse import masks
from transfuse.attention import Dense, attend
from transfuse.attention.kv_cache import KVCache
from transfuse.errors import TransfuseError
from transfuse_tiles.backend import Tiles

MASK = masks.parse("same(doc) & (le(idx) | same(span))")


@pytest.mark.parametrize("backend", ["dense", "tiles"])
def test_text_then_two_denoising_steps_then_text_equals_one_pass(backend: str) -> None:
    layers, heads, d, T, streams = 2, 2, 8, 12, [0, 2]
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, layers, len(streams), heads, T, d, generator=generator)
    junk = torch.randn(heads, 2 * 4, d, generator=generator)
    span = np.array([-1] * 5 + [0] * 4 + [-1] * 3)
    idx = np.arange(T)
    cache = KVCache(layers, heads, d, streams=3, capacity=16)
    outputs = torch.zeros(layers, len(streams), heads, T, d)
    for start, end, rounds in [(0, 4, 1), (4, 5, 1), (5, 9, 2), (9, 10, 1), (10, 12, 1)]:
        n = end - start
        slots = cache.slots(streams, n)
        assert slots.tolist() == [s * 16 + start + i for s in streams for i in range(n)]
        columns = {
            "doc": np.repeat(streams, n),
            "span": np.tile(span[start:end], 2),
            "idx": np.tile(idx[start:end], 2),
        }
        cache.label(slots, columns)
        for step in range(rounds):
            for layer in range(layers):
                last = step == rounds - 1
                write = [x[layer, :, :, start:end].transpose(0, 1).flatten(1, 2) for x in (q, k, v)]
                cache.write(layer, slots, *(write[1:] if last else (junk, junk)))
                out = attend(
                    write[0],
                    cache.keys(layer),
                    cache.values(layer),
                    mask=MASK,
                    columns=columns,
                    key_columns=cache.columns,
                    backend=backend,
                    backends={"dense": Dense(), "tiles": Tiles()},
                )
                outputs[layer, :, :, start:end] = out.unflatten(1, (2, n)).transpose(0, 1)
        cache.commit(streams, n)
    whole = {"doc": np.zeros(T), "span": span, "idx": idx}
    whole = {name: column.astype(int) for name, column in whole.items()}
    for layer in range(layers):
        for s in range(len(streams)):
            expected = attend(
                q[layer, s], k[layer, s], v[layer, s], mask=MASK, columns=whole, backend="dense"
            )
            torch.testing.assert_close(outputs[layer, s], expected)
    assert cache.length.tolist() == [T, 0, T]


def test_commit_frees_what_lies_beyond() -> None:
    cache = KVCache(1, 1, 4, streams=2, capacity=4)
    cache.label(cache.slots([0, 1], 3), {"doc": np.repeat([0, 1], 3), "idx": np.tile(np.arange(3), 2)})
    cache.commit([0, 1], [1, 2])
    assert cache.columns["doc"].tolist() == [0, -1, -1, -1, 1, 1, -1, -1]
    assert cache.slots([1, 0], [1, 2]).tolist() == [6, 1, 2]


def test_a_full_stream_is_named() -> None:
    cache = KVCache(1, 1, 4, streams=2, capacity=4)
    cache.commit([1], 3)
    with pytest.raises(TransfuseError, match="stream 1 holds 3 of 4 positions and has no room for 2 more"):
        cache.slots([0, 1], 2)
    with pytest.raises(TransfuseError, match="streams are 0…1"):
        cache.slots([2], 1)
    with pytest.raises(TransfuseError, match="named twice"):
        cache.slots([1, 1], 1)
