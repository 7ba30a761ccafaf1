"""Attention with the whole boolean mask: the oracle, and good enough for small rows."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from transfuse.attention.backend import Backend, Plan, Request
from transfuse.masks import Columns, Mask


class Dense(Backend):
    """torch's scaled_dot_product_attention with a [Tq, Tk] mask."""

    name = "dense"

    def supports(self, request: Request) -> list[str]:
        return []

    def plan(self, mask: Mask, queries: Columns, keys: Columns | None, request: Request) -> Plan:
        allowed = mask.allowed(queries, keys)
        seeing = allowed.any(1, keepdims=True)
        parts = (torch.from_numpy(part).to(request.device) for part in (allowed | ~seeing, seeing))
        return tuple(parts) if not seeing.all() else (next(parts), None)

    def attend(
        self, q: Float[Tensor, "H Tq d"], k: Float[Tensor, "Hk Tk d"], v: Float[Tensor, "Hk Tk d"], plan: Plan
    ) -> Float[Tensor, "H Tq d"]:
        allowed, seeing = plan
        if not k.shape[1]:
            return torch.zeros_like(q)
        out = F.scaled_dot_product_attention(
            q[None], k[None], v[None], attn_mask=allowed, enable_gqa=len(q) != len(k)
        )[0]
        return out if seeing is None else torch.where(seeing, out, 0.0)
