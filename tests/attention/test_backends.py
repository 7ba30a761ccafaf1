"""Every backend against float64 softmax written out, on training and on decoding shapes."""

import numpy as np
import pytest
import torch
from transfuse import masks
from transfuse.attention import BUILT_IN, Request, attend, select
from transfuse.errors import TransfuseError

TRANSFUSION = masks.parse("same(doc) & (le(idx) | same(span))")


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    group = len(q) // len(k)
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~allowed, -1e30)
    weights = scores.softmax(-1) * allowed
    return weights @ v


def row(docs: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    doc, span = [], []
    for d in range(docs):
        before, image, after = rng.integers(1, 6), rng.integers(1, 18), rng.integers(0, 4)
        doc += [d] * (before + image + after)
        span += [-1] * before + [d] * image + [-1] * after
    doc, span = [*doc, -1, -1], [*span, -1, -1]
    return {"doc": np.array(doc), "span": np.array(span), "idx": np.arange(len(doc))}


@pytest.mark.parametrize("backend", ["dense", "tiles", "auto"])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_outputs_and_gradients_equal_the_written_out_softmax(backend: str, kv_heads: int) -> None:
    columns = row(7, np.random.default_rng(0))
    T = len(columns["doc"])
    generator = torch.Generator().manual_seed(0)
    make = lambda heads: torch.randn(heads, T, 8, dtype=torch.float64, generator=generator).requires_grad_()  # noqa: E731
    q, k, v = make(4), make(kv_heads), make(kv_heads)
    g = torch.randn(4, T, 8, dtype=torch.float64, generator=generator)
    expected = reference(q, k, v, TRANSFUSION.dense(columns))
    wanted = torch.autograd.grad(expected, (q, k, v), g)
    out = attend(q, k, v, mask=TRANSFUSION, columns=columns, backend=backend)
    got = torch.autograd.grad(out, (q, k, v), g)
    for a, b in zip((expected, *wanted), (out, *got), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    assert (out[:, -2:] == 0).all()


@pytest.mark.parametrize("backend", ["dense", "tiles", "auto"])
def test_rectangular_queries_against_a_partly_free_cache(backend: str) -> None:
    streams, capacity, n = 5, 30, 16
    rng = np.random.default_rng(1)
    filled = rng.integers(0, capacity - n, streams)
    slot_doc, slot_idx = np.full((streams, capacity), -1), np.zeros((streams, capacity), int)
    for s, f in enumerate(filled):
        slot_doc[s, : f + n] = s
        slot_idx[s, : f + n] = np.arange(f + n)
    keys = {"doc": slot_doc.ravel(), "idx": slot_idx.ravel()}
    queries = {"doc": np.repeat(np.arange(streams), n), "idx": (filled[:, None] + np.arange(n)).ravel()}
    mask = masks.parse("same(doc) & le(idx)")
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(4, streams * n, 8, generator=generator, dtype=torch.float64)
    k, v = torch.randn(2, 2, streams * capacity, 8, generator=generator, dtype=torch.float64)
    out = attend(q, k, v, mask=mask, columns=queries, key_columns=keys, backend=backend)
    torch.testing.assert_close(out, reference(q, k, v, mask.dense(queries, keys)), rtol=0, atol=1e-13)


def test_an_unknown_backend_is_named_with_the_likely_one() -> None:
    request = Request(torch.device("cpu"), torch.float32, 1, 1, 8, 4, 4)
    with pytest.raises(TransfuseError, match="did you mean 'tiles'"):
        select("tile", request, BUILT_IN)
