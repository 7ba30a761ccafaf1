"""Attention in tiles: the CPU's training path. It computes little more than the allowed pairs, never T×T.

Forward and backward are registered custom operators, so that torch.compile keeps them whole. The weights
(the softmaxed scores of the tiles) are kept for the backward pass up to `KEPT` chunks, else computed again.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from transfuse.attention.backend import Backend, Plan, Request
from transfuse.masks import Columns, Mask

from transfuse_tiles.entry import answer, chunks
from transfuse_tiles.kernel import backward, forward, gradients
from transfuse_tiles.plan import lower
from transfuse_tiles.tiling import tiling


class Tiles(Backend):
    """Blocks of queries times the keys they see; small documents run as one batch."""

    name = "tiles"

    def supports(self, request: Request) -> list[str]:
        return []

    def plan(self, mask: Mask, queries: Columns, keys: Columns | None, request: Request) -> Plan:
        slices = mask.slices(queries, keys)
        return lower(tiling(slices, whole=not request.requires_grad, own=keys is None), request)

    def attend(
        self, q: Float[Tensor, "H Tq d"], k: Float[Tensor, "Hk Tk d"], v: Float[Tensor, "Hk Tk d"], plan: Plan
    ) -> Float[Tensor, "H Tq d"]:
        device = q.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):  # the kernel says itself what is float32
                return self.attend(q, k, v, plan)
        return _tiles(q, k, v, plan.table, plan.index, plan.bias, plan.kept, plan.rows)[0]


_tiles = torch.library.custom_op("transfuse::tiles", forward, mutates_args=())


@_tiles.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, table: Tensor, index: Tensor, bias: Tensor, kept: int, rows: int):
    block = [q.new_empty(rows * (len(q) + 2 * len(k)), q.shape[2])] if rows else []
    return answer(q), [*block, *chunks(q, kept)]


_tiles_backward = torch.library.custom_op("transfuse::tiles_backward", backward, mutates_args=())


@_tiles_backward.register_fake
def _(grad, qkv, heads, table, index, bias, weights):
    if len(qkv) == 1:
        return [grad.new_empty(grad.shape[1], len(grad) + 2 * heads, grad.shape[2])]
    q, k, v = qkv
    return gradients(q, k, v, grad.dtype)


def _keep(ctx, inputs, output) -> None:
    q, k, v, table, index, bias, _, rows = inputs
    # else the kept weights' gradients, which nobody asks for, are made as zeros
    ctx.set_materialize_grads(False)
    ctx.heads, ctx.gathered = [len(q), len(k), len(v)], rows > 0
    ctx.save_for_backward(table, index, bias, *([] if rows else [q, k, v]), *output[1])


def _back(ctx, grad: Tensor | None, _: list[Tensor | None]):
    if grad is None:
        return (None,) * 8
    table, index, bias, *kept = ctx.saved_tensors
    qkv, weights = (kept[:1], kept[1:]) if ctx.gathered else (kept[:3], kept[3:])
    found = _tiles_backward(grad, qkv, ctx.heads[1], table, index, bias, weights)
    if len(found) == 1:
        found = [part.transpose(0, 1) for part in found[0].split(ctx.heads, 1)]
    return *found, None, None, None, None, None


_tiles.register_autograd(_back, setup_context=_keep)
