"""The kit for attention backends: softmax written out is the judge, on published masks, outputs and gradients alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from transfuse import masks
from transfuse.attention import Backend, Request
from transfuse.masks import Columns, Mask
from transfuse.testing.kits.runner import Kit, LeftOut, expect
from transfuse.testing.masks.published import PUBLISHED, columns_for

ATTENTION: Kit["AttentionCase"] = Kit("attention backend")
CAUSAL = masks.parse("same(doc) & le(idx)")
HEADS, WIDTH, LENGTH, ODD = 4, 16, 128, 37
"""Some kernels serve whole blocks of 128 alone, and say so."""


@dataclass(frozen=True)
class AttentionCase:
    """A backend, tried on the CPU."""

    part: Backend

    def request(self, q: Tensor, k: Tensor, grad: bool) -> Request:
        return Request(q.device, q.dtype, len(q), len(k), q.shape[2], q.shape[1], k.shape[1], grad)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, queries: Columns, keys: Columns | None = None
    ) -> Tensor:
        """Its answer; left out where it says that it cannot."""
        request = self.request(q, k, q.requires_grad)
        reasons = self.part.supports(request)
        if reasons:
            raise LeftOut("; ".join(reasons))
        return self.part.attend(q, k, v, self.part.plan(mask, queries, keys, request))


def tensors(
    heads: tuple[int, int, int], n: int, keys: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """q, k and v of so many heads."""
    draw = torch.Generator().manual_seed(0)
    return [
        torch.randn(h, length, WIDTH, generator=draw, dtype=dtype)
        for h, length in zip(heads, (n, keys, keys), strict=True)
    ]


def written_out(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v in float64, 0 where a query sees nothing."""
    q, k, v = q.double(), k.double(), v.double()
    k, v = (x.repeat_interleave(len(q) // len(k), 0) for x in (k, v))
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~allowed, -1e30)
    return (scores.softmax(-1) * allowed) @ v


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).abs().max()) if wanted.numel() else 0.0


def rows() -> Iterator[tuple[str, Mask, Mapping[str, np.ndarray]]]:
    """Every published mask, over columns that it reads."""
    for name, published in PUBLISHED.items():
        yield name, published.mask, columns_for(published.mask, LENGTH)


@ATTENTION.check("change supports so that it returns a list of reasons, empty where it can serve")
def it_says_what_it_cannot(at: AttentionCase) -> None:
    """supports gives a list of texts."""
    q, k, _ = tensors((HEADS, HEADS, HEADS), 4, 4)
    found = at.part.supports(at.request(q, k, True))
    expect(isinstance(found, list) and all(isinstance(r, str) for r in found), f"supports gave {found!r:.60}")


@ATTENTION.check(
    "change plan and attend so that each query attends to the keys that its mask allows, and no others"
)
def outputs_are_those_written_out(at: AttentionCase) -> None:
    """On every published mask the output is softmax over the allowed keys."""
    for name, mask, columns in rows():
        q, k, v = tensors((HEADS, HEADS, HEADS), LENGTH, LENGTH)
        far = off(at.attend(q, k, v, mask, columns), written_out(q, k, v, mask.dense(columns)))
        expect(far < 1e-4, f"off by {far:.3g} on the mask of {name}: {mask}")


@ATTENTION.check("change attend so that its backward is that of softmax over the allowed keys")
def gradients_are_those_written_out(at: AttentionCase) -> None:
    """On every published mask the gradients of q, k and v are those of softmax."""
    for name, mask, columns in rows():
        q, k, v = (x.requires_grad_() for x in tensors((HEADS, HEADS, HEADS), LENGTH, LENGTH))
        outs = at.attend(q, k, v, mask, columns), written_out(q, k, v, mask.dense(columns))
        weight = torch.linspace(-1, 1, outs[0].numel()).reshape(outs[0].shape)
        found, wanted = (torch.autograd.grad((out * weight).sum(), (q, k, v)) for out in outs)
        for letter, a, b in zip("qkv", found, wanted, strict=True):
            far = off(a, b.double())
            expect(far < 1e-3, f"the gradient of {letter} is off by {far:.3g} on the mask of {name}: {mask}")


@ATTENTION.check(
    "change attend so that query head h goes with key head h // (H / Hk), or supports so that it says it cannot"
)
def heads_may_share_keys(at: AttentionCase) -> None:
    """Grouped heads: H a multiple of Hk."""
    columns = columns_for(CAUSAL, LENGTH)
    q, k, v = tensors((HEADS, 2, 2), LENGTH, LENGTH)
    far = off(at.attend(q, k, v, CAUSAL, columns), written_out(q, k, v, CAUSAL.dense(columns)))
    expect(far < 1e-4, f"off by {far:.3g} with 4 heads of queries and 2 of keys")


@ATTENTION.check(
    "change plan so that it reads the keys' own columns where there are some, as in decoding from a cache"
)
def keys_may_be_others_than_queries(at: AttentionCase) -> None:
    """Fewer queries than keys, each with columns of their own."""
    keys = columns_for(CAUSAL, 2 * LENGTH)
    queries = {name: values[-LENGTH:] for name, values in keys.items()}
    q, k, v = tensors((HEADS, HEADS, HEADS), LENGTH, 2 * LENGTH)
    far = off(at.attend(q, k, v, CAUSAL, queries, keys), written_out(q, k, v, CAUSAL.dense(queries, keys)))
    expect(far < 1e-4, f"off by {far:.3g} for {LENGTH} queries of {2 * LENGTH} keys")
    before = {name: values[LENGTH // 2 : -LENGTH // 2] for name, values in keys.items()}
    k, v = k[:, :LENGTH], v[:, :LENGTH]
    far = off(
        at.attend(q, k, v, CAUSAL, queries, before), written_out(q, k, v, CAUSAL.dense(queries, before))
    )
    expect(far < 1e-4, f"off by {far:.3g} for {LENGTH} queries of as many keys with other columns")


@ATTENTION.check("change attend so that a query that sees nothing gives 0, and no NaN")
def queries_that_see_nothing_give_0(at: AttentionCase) -> None:
    """Filler, of no document, gives 0 and gradients that are finite."""
    columns = {"doc": np.where(np.arange(LENGTH) < 100, 0, -1), "idx": np.arange(LENGTH)}
    q, k, v = tensors((HEADS, HEADS, HEADS), LENGTH, LENGTH)
    expect((at.attend(q, k, v, CAUSAL, columns)[:, 100:] == 0).all(), "filler gives something else than 0")
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    grads = torch.autograd.grad(at.attend(q, k, v, CAUSAL, columns).sum(), (q, k, v))
    expect(all(g.isfinite().all() for g in grads), "filler gives NaN in the gradients")


@ATTENTION.check(
    "change plan and attend so that a row may have any length, or supports so that it says what it needs"
)
def rows_may_have_any_length(at: AttentionCase) -> None:
    """A row of an odd number of positions is attended to as others are."""
    columns = columns_for(CAUSAL, ODD)
    q, k, v = tensors((HEADS, HEADS, HEADS), ODD, ODD)
    far = off(at.attend(q, k, v, CAUSAL, columns), written_out(q, k, v, CAUSAL.dense(columns)))
    expect(far < 1e-4, f"off by {far:.3g} in a row of {ODD}")


@ATTENTION.check("change attend so that it takes each query's largest score from its scores before exp")
def large_scores_do_not_overflow(at: AttentionCase) -> None:
    """Scores of some hundreds give what softmax gives."""
    columns = columns_for(CAUSAL, LENGTH)
    q, k, v = tensors((HEADS, HEADS, HEADS), LENGTH, LENGTH)
    far = off(at.attend(90 * q, k, v, CAUSAL, columns), written_out(90 * q, k, v, CAUSAL.dense(columns)))
    expect(far < 1e-3, f"off by {far:.3g} where scores reach hundreds")


@ATTENTION.check(
    "change attend so that it gives zeros where there are no keys, or supports so that it says it cannot"
)
def no_keys_give_0(at: AttentionCase) -> None:
    """Queries without any key give 0."""
    columns = columns_for(CAUSAL, LENGTH)
    q, k, v = tensors((HEADS, HEADS, HEADS), LENGTH, 0)
    found = at.attend(q, k, v, CAUSAL, columns, {name: values[:0] for name, values in columns.items()})
    expect(found.shape == q.shape and (found == 0).all(), "queries without keys give something else than 0")


@ATTENTION.check("change attend so that it works on copies of q, k and v")
def attending_leaves_q_k_and_v_as_they_are(at: AttentionCase) -> None:
    """attend writes nothing into q, k and v."""
    q, k, v = given = tensors((HEADS, HEADS, HEADS), LENGTH, LENGTH)
    kept = [x.clone() for x in given]
    at.attend(q, k, v, CAUSAL, columns_for(CAUSAL, LENGTH))
    changed = [name for name, a, b in zip("qkv", given, kept, strict=True) if not a.equal(b)]
    expect(not changed, f"attend changed {' and '.join(changed)} in place")


@ATTENTION.check("change attend so that one plan serves any number of calls: it writes nothing into it")
def one_plan_serves_all_layers(at: AttentionCase) -> None:
    """A plan that was used once gives the same again."""
    columns = columns_for(CAUSAL, LENGTH)
    q, k, v = tensors((HEADS, HEADS, HEADS), LENGTH, LENGTH)
    request = at.request(q, k, False)
    if reasons := at.part.supports(request):
        raise LeftOut("; ".join(reasons))
    plan = at.part.plan(CAUSAL, columns, None, request)
    one = at.part.attend(q, k, v, plan)
    at.part.attend(2 * q, k, 3 * v, plan)
    expect(at.part.attend(q, k, v, plan).equal(one), "the second layer of a plan gave another answer")


@ATTENTION.check("change attend so that it sums in float32 where q, k and v are of half precision")
def half_precision_errs_little(at: AttentionCase) -> None:
    """In bfloat16 it errs no more than twice what rounding the exact answer does."""
    columns = columns_for(CAUSAL, LENGTH)
    q, k, v = tensors((HEADS, HEADS, HEADS), LENGTH, LENGTH, torch.bfloat16)
    exact = written_out(q, k, v, CAUSAL.dense(columns))
    found = at.attend(q, k, v, CAUSAL, columns)
    expect(found.dtype == torch.bfloat16, f"the output is {found.dtype} of bfloat16")
    expect(off(found, exact) < 0.05, f"off by {off(found, exact):.3g} in bfloat16")
