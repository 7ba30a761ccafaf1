"""Every backend against float64 softmax written out, on training and on decoding shapes."""

import numpy as np
import pytest
import torch
from transfuse import masks
from transfuse.attention import BUILT_IN, Dense, Request, attend, select
from transfuse.attention.select import order
from transfuse.errors import TransfuseError
from transfuse_tiles.backend import Tiles

BACKENDS = {**BUILT_IN, "tiles": Tiles()}
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
    out = attend(q, k, v, mask=TRANSFUSION, columns=columns, backend=backend, backends=BACKENDS)
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
    out = attend(q, k, v, mask=mask, columns=queries, key_columns=keys, backend=backend, backends=BACKENDS)
    torch.testing.assert_close(out, reference(q, k, v, mask.dense(queries, keys)), rtol=0, atol=1e-13)


class Refusing(Dense):
    """A backend that serves nothing."""

    def supports(self, request: Request) -> list[str]:
        return ["it is broken", "and slow"]


def asked(device: str = "cpu") -> Request:
    return Request(torch.device(device), torch.float32, 1, 1, 8, 4, 4)


def test_an_unknown_backend_is_named_with_the_likely_one() -> None:
    with pytest.raises(TransfuseError, match="unknown attention backend 'tile': did you mean 'tiles'"):
        select("tile", asked(), BACKENDS)


def test_an_explicit_backend_that_cannot_serve_is_an_error_with_its_reasons() -> None:
    with pytest.raises(TransfuseError, match="'bad' cannot serve this: it is broken; and slow"):
        select("bad", asked(), {"bad": Refusing()})
    with pytest.raises(TransfuseError, match="no attention backend can serve this: not bad: it is broken"):
        select("auto", asked(), {"bad": Refusing()})
    with pytest.raises(TransfuseError, match="none is installed"):
        select("auto", asked(), {})


def test_auto_says_once_what_it_chose_and_why(caplog: pytest.LogCaptureFixture) -> None:
    backends = {"dense": Dense(), "flex": Refusing(), "other": Dense()}
    with caplog.at_level("INFO", "transfuse.attention"):
        for _ in range(2):
            assert select("auto", asked("cuda"), backends) is backends["other"]
    assert caplog.messages == ["attention: other (not flex: it is broken, and slow)"]


def test_auto_prefers_tiles_on_cpu_and_dense_last() -> None:
    backends = {"dense": Dense(), "flex": Dense(), "tiles": Tiles(), "a": Dense()}
    assert order(asked(), backends) == ["tiles", "a", "flex", "dense"]
    assert order(asked("cuda"), backends) == ["flex", "tiles", "a", "dense"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_errs_no_more_than_dense(dtype: torch.dtype) -> None:
    columns = row(12, np.random.default_rng(3))
    T = len(columns["doc"])
    exact = torch.randn(4, 4, T, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = {}
    for backend, kind in (("exact", torch.float64), ("dense", dtype), ("tiles", dtype)):
        q, k, v, g = (x.to(dtype).to(kind) for x in exact)
        q, k, v = (x.requires_grad_() for x in (q, k, v))
        name = "dense" if backend == "exact" else backend
        out = attend(q, k, v, mask=TRANSFUSION, columns=columns, backend=name, backends=BACKENDS)
        results[backend] = (out, *torch.autograd.grad(out, (q, k, v), g))
    for reference_, dense, tiles in zip(*results.values(), strict=True):
        error = {name: (x.double() - reference_).abs().max() for name, x in (("d", dense), ("t", tiles))}
        assert tiles.dtype == dtype
        assert error["t"] <= 1.5 * error["d"] + (5e-6 if dtype == torch.float32 else 0)


def test_gradcheck_of_the_custom_operator() -> None:
    columns = row(2, np.random.default_rng(5))
    T = len(columns["doc"])
    q, k, v = (torch.randn(2, T, 3, dtype=torch.float64).requires_grad_() for _ in range(3))
    plan = Tiles().plan(TRANSFUSION, columns, None, Request(q.device, q.dtype, 2, 2, 3, T, T))
    assert torch.autograd.gradcheck(lambda *x: Tiles().attend(*x, plan), (q, k, v))


def test_operator_registration_is_sound() -> None:
    columns = row(2, np.random.default_rng(5))
    T = len(columns["doc"])
    q, k, v = (torch.randn(2, T, 4).requires_grad_() for _ in range(3))
    plan = Tiles().plan(TRANSFUSION, columns, None, Request(q.device, q.dtype, 2, 2, 4, T, T))
    args = (q, k, v, plan.table, plan.index, plan.bias, plan.kept, plan.rows)
    torch.library.opcheck(
        torch.ops.transfuse.tiles.default, args, test_utils=("test_schema", "test_faketensor")
    )


def test_keys_that_nobody_has_and_queries_that_see_nothing() -> None:
    for backend in ("dense", "tiles"):
        q = torch.randn(2, 3, 4, requires_grad=True)
        for keys in (0, 2):
            k = torch.randn(2, keys, 4)
            columns, others = {"doc": [-1, 0, 1]}, {"doc": [2] * keys}
            mask = masks.same("doc")
            out = attend(
                q, k, k, mask=mask, columns=columns, key_columns=others, backend=backend, backends=BACKENDS
            )
            assert (out == 0).all()
            (grad,) = torch.autograd.grad(out.sum(), q) if out.requires_grad else (torch.zeros(1),)
            assert (grad == 0).all()


def test_torch_compile_keeps_the_operator_whole() -> None:
    columns = row(3, np.random.default_rng(2))
    T = len(columns["doc"])
    q, k, v = (torch.randn(2, T, 8, requires_grad=True) for _ in range(3))
    plan = Tiles().plan(TRANSFUSION, columns, None, Request(q.device, q.dtype, 2, 2, 8, T, T))

    def layer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return Tiles().attend(q * 2, k, v, plan).square().sum()

    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for a, b in zip(*(torch.autograd.grad(f(q, k, v), (q, k, v)) for f in (layer, compiled)), strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_through_a_plan_made_without_them_are_refused() -> None:
    columns = row(40, np.random.default_rng(2))  # so many that some are batched
    T = len(columns["doc"])
    q, k, v = (torch.randn(2, T, 8, requires_grad=True) for _ in range(3))
    request = Request(q.device, q.dtype, 2, 2, 8, T, T, requires_grad=False)
    out = Tiles().attend(q, k, v, Tiles().plan(TRANSFUSION, columns, columns, request))  # keys of their own
    with pytest.raises(TransfuseError, match="plan with requires_grad=True"):
        out.sum().backward()
