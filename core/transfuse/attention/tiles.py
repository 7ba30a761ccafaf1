"""Attention in tiles that never build T×T: blocks of queries with the keys they see, alike ones batched."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from transfuse.attention.backend import Backend, Plan, Request
from transfuse.masks import And, Columns, Mask, Same
from transfuse.masks.columns import read
from transfuse.masks.predicate import predicate

BLOCK = 128


@dataclass(frozen=True, eq=False)
class Bucket:
    """Tiles of one shape: query rows [B, n], key rows [B, m], what each may see [B, 1, n, m]."""

    queries: Tensor
    keys: Tensor
    allowed: Tensor


class Tiles(Backend):
    """Each tile is a small dense attention; tiles of one shape run as one batch."""

    name = "tiles"

    def supports(self, request: Request) -> list[str]:
        return []

    def plan(self, mask: Mask, queries: Columns, keys: Columns | None, request: Request) -> Plan:
        q, k, rows, cols = read(mask, queries, keys)
        found: dict[tuple[int, int], list] = {}
        for i, j in _groups(mask, q, k, rows, cols):
            for part in np.split(i, range(BLOCK, len(i), BLOCK)):
                seen = np.broadcast_to(
                    predicate(mask, {n: a[part] for n, a in q.items()}, {n: a[j] for n, a in k.items()}),
                    (len(part), len(j)),
                )
                sees, seen_by = seen.any(1), seen.any(0)
                if not sees.any():
                    continue
                seen = seen[sees][:, seen_by]
                found.setdefault(seen.shape, []).append((part[sees], j[seen_by], seen))
        return [
            Bucket(*(torch.from_numpy(np.stack(a)).to(request.device) for a in zip(*tiles, strict=True)))
            for tiles in found.values()
        ]

    def attend(
        self, q: Float[Tensor, "H Tq d"], k: Float[Tensor, "Hk Tk d"], v: Float[Tensor, "Hk Tk d"], plan: Plan
    ) -> Float[Tensor, "H Tq d"]:
        out = torch.zeros_like(q)
        if not plan:
            return out
        parts = []
        for bucket in plan:
            part = F.scaled_dot_product_attention(
                q[:, bucket.queries].transpose(0, 1),
                k[:, bucket.keys].transpose(0, 1),
                v[:, bucket.keys].transpose(0, 1),
                attn_mask=bucket.allowed[:, None],
                enable_gqa=len(q) != len(k),
            )
            parts.append(part.transpose(0, 1).flatten(1, 2))
        where = torch.cat([bucket.queries.flatten() for bucket in plan])
        return out.index_copy(1, where, torch.cat(parts, 1))


def _groups(mask: Mask, q: dict, k: dict, rows: int, cols: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Query and key indices of each group that a conjunct same(column) makes; one group without such."""
    names = [t.column for t in (mask.terms if isinstance(mask, And) else (mask,)) if isinstance(t, Same)]
    if not names:
        return [(np.arange(rows), np.arange(cols))]
    left, right = q[names[0]], k[names[0]]
    i, j = np.argsort(left, kind="stable"), np.argsort(right, kind="stable")
    left, right = left[i], right[j]
    values = np.unique(left[left != -1])
    q0, q1 = np.searchsorted(left, values), np.searchsorted(left, values, "right")
    k0, k1 = np.searchsorted(right, values), np.searchsorted(right, values, "right")
    return [(i[a:b], j[c:d]) for a, b, c, d in zip(q0, q1, k0, k1, strict=True) if d > c]
