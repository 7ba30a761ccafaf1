"""Attention under a mask: one function for tests and notebooks, and the backends behind it."""

from collections.abc import Mapping
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from transfuse.attention.backend import Backend as Backend
from transfuse.attention.backend import Plan as Plan
from transfuse.attention.backend import Request as Request
from transfuse.attention.dense import Dense as Dense
from transfuse.attention.kv_cache import KVCache as KVCache
from transfuse.attention.select import select as select
from transfuse.masks import Columns, Mask

BUILT_IN: Mapping[str, Backend] = MappingProxyType({"dense": Dense()})
"""The backend that comes with core, which needs memory for all pairs; plugins bring faster ones."""


def attend(
    q: Float[Tensor, "H Tq d"],
    k: Float[Tensor, "Hk Tk d"],
    v: Float[Tensor, "Hk Tk d"],
    *,
    mask: Mask,
    columns: Columns,
    key_columns: Columns | None = None,
    backend: str = "auto",
    backends: Mapping[str, Backend] = BUILT_IN,
) -> Float[Tensor, "H Tq d"]:
    """Attention of queries over the keys that `mask` allows, differentiable; queries that see nothing give 0.

    `columns` describe the queries, `key_columns` the keys where they are others than the queries. To run many
    layers on one batch, plan once: `select(name, request, backends).plan(…)`, then its `attend` a layer.
    """
    request = Request(
        device=q.device,
        dtype=q.dtype,
        heads=q.shape[0],
        kv_heads=k.shape[0],
        head_dim=q.shape[2],
        queries=q.shape[1],
        keys=k.shape[1],
        requires_grad=q.requires_grad or k.requires_grad or v.requires_grad,
    )
    chosen = select(backend, request, backends)
    return chosen.attend(q, k, v, chosen.plan(mask, columns, key_columns, request))
