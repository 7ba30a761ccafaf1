"""FlexAttention: torch's block-sparse kernel, fed a BlockMask built from slices instead of from all pairs.

It trains on CUDA only. On CPU its uncompiled forward serves to check the lowering. Nothing here was run on a
GPU yet: the block mask and the mask function are proved on the CPU, the compiled kernel is not.

torch's FlexAttention is imported on use: that takes a third of a second, and building the backend nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transfuse.masks.columns import read
from transfuse.masks.expressions import And, Constant, Delta, Expression, Flag, Not, Or, Same, Table, atoms
from transfuse.plugin import NONE, Backend, Columns, Intervals, Mask, Plan, Request, Slices, TransfuseError

from transfuse_adapters.block_counts import block_counts

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
TABLES = 2
"""Up to this many intervals a query the mask function looks them up; beyond, it evaluates the expression."""

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class FlexPlan:
    """The block mask, and which queries see anything (None: all)."""

    blocks: "BlockMask"
    seeing: Tensor | None


class Flex(Backend):
    """Fixed lengths in multiples of 128; the kernel is compiled once and the masks' tensors are captured."""

    name = "flex"

    def supports(self, request: Request) -> list[str]:
        reasons = []
        for what, length in (("queries", request.queries), ("keys", request.keys)):
            if length % BLOCK or not length:
                reasons.append(
                    f"{length} {what} are no multiple of {BLOCK}: fill rows up (train.fill, train.budget a multiple)"
                )
        if request.device.type == "cpu" and request.requires_grad:
            reasons.append("FlexAttention has no backward pass on CPU")
        elif request.device.type not in ("cpu", "cuda"):
            reasons.append(f"FlexAttention does not run on {request.device.type}")
        if request.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            reasons.append(f"FlexAttention does not take {request.dtype}")
        if request.head_dim < 16:
            reasons.append(f"heads of {request.head_dim} are below FlexAttention's 16")
        return reasons

    def plan(self, mask: Mask, queries: Columns, keys: Columns | None, request: Request) -> Plan:
        slices = mask.slices(queries, keys)
        intervals = slices.intervals()
        counts = np.diff(intervals.ptr)
        if counts.max(initial=0) <= TABLES:
            mod = from_tables(intervals, request.device)
        else:
            mod = from_expression(mask, queries, keys, request.device)
        seeing = None if counts.all() else torch.from_numpy(counts > 0).to(request.device)[:, None]
        return FlexPlan(block_mask(slices, mod, request.device), seeing)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, plan: Plan) -> Tensor:
        kernel = _compiled() if q.is_cuda else _kernel()
        out: Any = kernel(q[None], k[None], v[None], block_mask=plan.blocks, enable_gqa=len(q) != len(k))
        return out[0] if plan.seeing is None else torch.where(plan.seeing, out[0], 0.0)


def _kernel() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


@cache
def _compiled() -> Callable[..., Any]:
    """Compiled once a process, for fixed lengths: each further length is one more compilation."""
    return torch.compile(_kernel(), dynamic=False)


def block_mask(slices: Slices, mod: MaskMod, device: torch.device | str = "cpu") -> "BlockMask":
    """The BlockMask of slices: full blocks skip the mask function, absent ones are skipped altogether."""
    from torch.nn.attention.flex_attention import BlockMask

    if slices.queries % BLOCK or slices.keys % BLOCK:
        raise TransfuseError(
            f"flex: {slices.queries} queries × {slices.keys} keys are no multiples of {BLOCK}; fill the row up"
        )
    rows, columns = slices.queries // BLOCK, slices.keys // BLOCK
    counts = block_counts(slices, BLOCK, BLOCK)
    full = counts.pairs == BLOCK * BLOCK
    lists = []
    for which in (~full, full):
        query, key = counts.query[which], counts.key[which]
        many = np.bincount(query, minlength=rows)
        index = np.zeros((rows, columns), np.int32)
        index[query, np.arange(len(query)) - np.repeat(np.cumsum(many) - many, many)] = key
        lists += [many.astype(np.int32)[None, None], index[None, None]]
    return BlockMask.from_kv_blocks(
        *(torch.from_numpy(part).to(device) for part in lists),
        BLOCK_SIZE=BLOCK,
        mask_mod=mod,
        seq_lengths=(slices.queries, slices.keys),
    )


def from_tables(intervals: Intervals, device: torch.device | str = "cpu") -> MaskMod:
    """A mask function that looks up each query's intervals, at most `TABLES` of them."""
    start, end = np.zeros((2, TABLES, len(intervals)), np.int32)
    owner = np.repeat(np.arange(len(intervals)), np.diff(intervals.ptr))
    nth = np.arange(len(owner)) - intervals.ptr[owner]
    start[nth, owner], end[nth, owner] = intervals.start, intervals.end
    start0, start1 = (torch.from_numpy(part).to(device) for part in start)
    end0, end1 = (torch.from_numpy(part).to(device) for part in end)

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return ((j >= start0[i]) & (j < end0[i])) | ((j >= start1[i]) & (j < end1[i]))

    return sees


def from_expression(
    mask: Mask, queries: Columns, keys: Columns | None, device: torch.device | str = "cpu"
) -> MaskMod:
    """A mask function that evaluates the expression over captured columns."""
    q, k, _, _ = read(mask.expression, queries, keys)
    q_columns = {name: torch.from_numpy(np.ascontiguousarray(a)).to(device) for name, a in q.items()}
    k_columns = {name: torch.from_numpy(np.ascontiguousarray(a)).to(device) for name, a in k.items()}
    tables = {
        t: torch.tensor(t.rows, dtype=torch.bool, device=device)
        for t in atoms(mask.expression)
        if isinstance(t, Table)
    }

    def rule(part: Expression, i: Tensor, j: Tensor) -> Tensor:
        if isinstance(part, Constant):
            return (i == i) if part.value else (i != i)
        if isinstance(part, Same):
            left = q_columns[part.column][i]
            return (left == k_columns[part.column][j]) & (left != NONE)
        if isinstance(part, Delta):
            difference = q_columns[part.column][i] - k_columns[part.key][j]
            low = difference >= part.lo if part.lo is not None else None
            high = difference <= part.hi if part.hi is not None else None
            return high if low is None else low if high is None else low & high  # type: ignore[return-value]
        if isinstance(part, Flag):
            return (q_columns[part.column][i] if part.side == "q" else k_columns[part.column][j]) != 0
        if isinstance(part, Table):
            left, right = q_columns[part.column][i], k_columns[part.column][j]
            return tables[part][left.clamp(min=0), right.clamp(min=0)] & (left != NONE) & (right != NONE)
        if isinstance(part, Not):
            return ~rule(part.term, i, j)
        assert isinstance(part, And | Or), type(part)
        result = rule(part.terms[0], i, j)
        for term in part.terms[1:]:
            result = result & rule(term, i, j) if isinstance(part, And) else result | rule(term, i, j)
        return result

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return rule(mask.expression, i, j)

    return sees
