"""xformers' lowering, proved on CPU: its biases materialised cover every allowed pair exactly once."""

import builtins
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from transfuse import masks
from transfuse.attention import Request
from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.testing import strategies
from transfuse_adapters import xformers


def counted(calls: list[xformers.Call], rows: int, keys: int) -> torch.Tensor:
    count = torch.zeros(rows, keys, dtype=torch.long)
    for call in calls:
        assert len(set(call.queries.tolist())) == len(call.queries), "no query twice in a call"
        seen = call.bias.materialize((len(call.queries), len(call.keys))) == 0
        i, j = seen.nonzero(as_tuple=True)
        count.index_put_(
            (call.queries[i], call.keys[j]), torch.ones(len(i), dtype=torch.long), accumulate=True
        )
    return count


@given(strategies.masks(), strategies.columns(), strategies.columns())
def test_every_allowed_pair_is_counted_exactly_once(mask: Mask, queries: dict, keys: dict) -> None:
    allowed = mask.dense(queries, keys)
    calls = xformers.calls(mask.slices(queries, keys))
    assert (counted(calls, *allowed.shape) == allowed).all()


def test_transfusion_takes_two_calls() -> None:
    row = [strategies.Layout(((5, False, False), (8, True, False), (4, False, False)))] * 3
    rule = masks.parse("same(doc) & (le(idx) | same(span))")
    assert len(xformers.calls(rule.slices(strategies.packed(row)))) == 2


class Written:
    """A kernel with xformers' interface, written out on the CPU over materialised biases."""

    def forward(self, q: Any, k: Any, v: Any, bias: Any) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.scores(q, k, bias)
        return torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v), scores.logsumexp(-1)

    def scores(self, q: Any, k: Any, bias: Any) -> torch.Tensor:
        allowed = bias.materialize((q.shape[1], k.shape[1])).to(q.dtype)
        return torch.einsum("bihd,bjhd->bhij", q, k) / q.shape[-1] ** 0.5 + allowed

    def backward(self, grad: Any, out: Any, lse: Any, q: Any, k: Any, v: Any, bias: Any) -> Any:
        weights = (self.scores(q, k, bias) - lse[..., None]).exp()
        of_weights = torch.einsum("bihd,bjhd->bhij", grad, v)
        of_scores = weights * (of_weights - (grad * out).sum(-1).mT[..., None]) / q.shape[-1] ** 0.5
        return (
            torch.einsum("bhij,bjhd->bihd", of_scores, k),
            torch.einsum("bhij,bihd->bjhd", of_scores, q),
            torch.einsum("bhij,bihd->bjhd", weights, grad),
        )


@settings(max_examples=40)
@given(strategies.masks(), strategies.columns(), strategies.columns())
def test_merged_output_and_gradients_are_exact(mask: Mask, queries: dict, keys: dict) -> None:
    allowed = mask.dense(queries, keys)
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, allowed.shape[0], 8), (2, allowed.shape[1], 8), (2, allowed.shape[1], 8)]
    q, k, v = (torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes)
    scores = (q @ k.repeat_interleave(2, 0).mT / 8**0.5).masked_fill(~allowed, -1e30)
    expected = (scores.softmax(-1) * allowed) @ v.repeat_interleave(2, 0)
    backend = xformers.XFormers(Written())
    request = Request(q.device, q.dtype, 4, 2, 8, q.shape[1], k.shape[1])
    assert backend.supports(request) == []
    out = backend.attend(q, k, v, backend.plan(mask, queries, keys, request))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    g = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    for a, b in zip(*(torch.autograd.grad(x, (q, k, v), g) for x in (expected, out)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_reasons_on_cpu_and_the_cure_when_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(torch.device("cpu"), torch.float64, 1, 1, 8, 4, 4)
    reasons = xformers.XFormers().supports(request)
    assert reasons == ["xformers has no kernels for cpu", "xformers does not take torch.float64"]
    original = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("xformers"):
            raise ImportError("No module named 'xformers'")
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(TransfuseError, match="pip install 'transfuse\\[xformers\\]'"):
        xformers.biases()
