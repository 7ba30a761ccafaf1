"""xformers: any mask as calls with its block-diagonal biases, merged by their log-sum-exp.

Each slice is one block of one call. A level slice is a full block; one whose upper bound glides is causal from
the bottom right; one whose lower bound glides is the same with queries and keys reversed; a band, in which
both glide, is cut into those two. So a call is `BlockDiagonalMask` or `BlockDiagonalCausalFromBottomRightMask`
over gathered queries and keys, and every allowed pair is in exactly one call. That is proved on CPU by
materialising the biases. The kernels run on CUDA only and were not run here.

Needs `pip install 'transfuse[xformers]'` (xformers 0.0.35, the newest on PyPI); imported on use.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transfuse.plugin import Backend, Columns, Mask, Plan, Request, Slices, TransfuseError

Piece = tuple[range, range]
"""One block: its queries and its keys, in the order in which the kernel reads them."""


@dataclass(frozen=True, eq=False)
class Call:
    """One kernel call: rows of q, rows of k and v, and the bias between them. No query comes twice."""

    queries: Tensor
    keys: Tensor
    bias: Any


class Kernel(Protocol):
    """Forward with log-sum-exp, and its backward; q [1, n, H, d], k and v [1, m, H, d], lse [1, H, n]."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Any) -> tuple[Tensor, Tensor]: ...

    def backward(
        self, grad: Tensor, out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Any
    ) -> tuple[Tensor, Tensor, Tensor]: ...


def biases() -> Any:
    """xformers' module of bias classes; TransfuseError with the cure when it is not installed."""
    try:
        from xformers.ops.fmha import attn_bias
    except ImportError as fault:
        raise TransfuseError(
            f"attention backend 'xformers' needs xformers ({fault}): pip install 'transfuse[xformers]'"
        ) from None
    return attn_bias


class MemoryEfficient:
    """xformers' own kernel."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Any) -> tuple[Tensor, Tensor]:
        from xformers.ops import fmha

        return fmha.memory_efficient_attention_forward_requires_grad(q, k, v, bias)

    def backward(
        self, grad: Tensor, out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        from xformers.ops import fmha

        return fmha.memory_efficient_attention_backward(grad, out, lse, q, k, v, bias)


class XFormers(Backend):
    """Slices as calls of xformers' variable-length kernels, exact in both directions."""

    name = "xformers"

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._kernel = kernel

    def supports(self, request: Request) -> list[str]:
        reasons = []
        if request.device.type != "cuda" and self._kernel is None:
            reasons.append(f"xformers has no kernels for {request.device.type}")
        if request.dtype not in (torch.float16, torch.bfloat16, torch.float32) and self._kernel is None:
            reasons.append(f"xformers does not take {request.dtype}")
        try:
            biases()
        except TransfuseError as fault:
            reasons.append(str(fault))
        return reasons

    def plan(self, mask: Mask, queries: Columns, keys: Columns | None, request: Request) -> Plan:
        return calls(mask.slices(queries, keys), request.device)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, plan: Plan) -> Tensor:
        groups = len(q) // len(k)
        if groups > 1:
            k, v = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        out = _Merged.apply(q, k, v, plan, self._kernel or MemoryEfficient())
        return out[0].transpose(0, 1)  # type: ignore[index]


def calls(slices: Slices, device: torch.device | str = "cpu") -> list[Call]:
    """The calls that cover every allowed pair once: as few as the slices of the busiest query allow."""
    found = []
    for causal, pieces in ((False, _full(slices)), (True, _causal(slices))):
        kind = biases().BlockDiagonalCausalFromBottomRightMask if causal else biases().BlockDiagonalMask
        for together in _rounds(pieces):
            bias = kind.from_seqlens([len(q) for q, _ in together], [len(k) for _, k in together])
            rows = [torch.tensor(np.concatenate(side), device=device) for side in zip(*together, strict=True)]
            found.append(Call(*rows, bias=bias.to(torch.device(device))))
    return found


def _rows(slices: Slices) -> Iterable[tuple[int, ...]]:
    arrays = (slices.q0, slices.q1, slices.lo, slices.hi, slices.slope_lo, slices.slope_hi)
    return zip(*(a.tolist() for a in arrays), strict=True)


def _full(slices: Slices) -> list[Piece]:
    return [(range(q0, q1), range(lo, hi)) for q0, q1, lo, hi, a, b in _rows(slices) if not a and not b]


def _causal(slices: Slices) -> list[Piece]:
    """Pieces in which row i of n sees keys up to m − n + i of m."""
    pieces = []
    for q0, q1, lo, hi, a, b in _rows(slices):
        n = q1 - q0
        if b and not a:
            pieces.append((range(q0, q1), range(lo, hi + n - 1)))
        elif a and not b:
            pieces.append((range(q1 - 1, q0 - 1, -1), range(hi - 1, lo - 1, -1)))
        elif a:
            # A band of width w, w rows at a time: keys up to the chunk's first upper bound are shed one a row,
            # keys after it are gained one a row.
            w = hi - lo
            for start in range(0, n, w):
                stop = min(start + w, n)
                rows, turn = range(q0 + start, q0 + stop), hi + start
                pieces.append((rows[::-1], range(turn - 1, lo + start - 1, -1)))
                if len(rows) > 1:
                    pieces.append((rows[1:], range(turn, turn + len(rows) - 1)))
    return pieces


def _rounds(pieces: list[Piece]) -> list[list[Piece]]:
    """Pieces in as few groups as a greedy pass finds, no query twice in a group."""
    rounds: list[list[Piece]] = []
    busy: list[int] = []
    for piece in sorted(pieces, key=lambda piece: min(piece[0])):
        first, last = min(piece[0]), max(piece[0])
        at = next((i for i, until in enumerate(busy) if until < first), len(rounds))
        if at == len(rounds):
            rounds.append([])
            busy.append(-1)
        rounds[at].append(piece)
        busy[at] = last
    return rounds


class _Merged(torch.autograd.Function):
    """All calls, merged by log-sum-exp. Its backward hands the merged output and log-sum-exp to each call:
    with them a call's own backward gives exactly its share of the gradients. (The kernels' log-sum-exp is not
    differentiable, so merging under plain autograd would be silently wrong.)"""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: list[Call], kernel: Kernel) -> Tensor:
        out = torch.zeros_like(q, dtype=torch.float32 if q.dtype != torch.float64 else q.dtype)
        total = out.new_full((1, q.shape[2], q.shape[1]), -torch.inf)
        for call in plan:
            i, j = call.queries, call.keys
            part, lse = kernel.forward(q[:, i], k[:, j], v[:, j], call.bias)
            lse = lse[..., : len(i)].to(out.dtype)
            before, after = total[..., i], torch.logaddexp(total[..., i], lse)
            old, new = ((x - after).exp().mT[..., None] for x in (before, lse))
            out[:, i] = old * out[:, i] + new * part.to(out.dtype)
            total[..., i] = after
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, total)
        ctx.plan, ctx.kernel = plan, kernel
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        q, k, v, out, total = ctx.saved_tensors
        (grad,) = grads
        results = [torch.zeros_like(x, dtype=out.dtype) for x in (q, k, v)]
        for call in ctx.plan:
            i, j = call.queries, call.keys
            parts = ctx.kernel.backward(
                grad[:, i].contiguous(),
                out[:, i],
                total[..., i].contiguous(),
                q[:, i],
                k[:, j],
                v[:, j],
                call.bias,
            )
            for result, where, part in zip(results, (i, j, j), parts, strict=True):
                result.index_add_(1, where, part.to(result.dtype))
        return *results, None, None
