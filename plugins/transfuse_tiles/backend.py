"""Attention in tiles: the CPU's training path. It computes little more than the allowed pairs, never T×T.

Forward and backward are registered custom operators, so that torch.compile keeps them whole. The weights
(the softmaxed scores of the tiles) are kept for the backward pass up to `KEPT` chunks, else computed again.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from transfuse.attention.backend import Backend, Plan, Request
from transfuse.masks import Columns, Mask

from transfuse_tiles.kernel import answer, backward, chunks, forward
from transfuse_tiles.plan import lower
from transfuse_tiles.tiling import tiling


class Tiles(Backend):
    """Blocks of queries times the keys they see; small documents run as one batch."""

    name = "tiles"

    def supports(self, request: Request) -> list[str]:
        return []

    def plan(self, mask: Mask, queries: Columns, keys: Columns | None, request: Request) -> Plan:
        slices = mask.slices(queries, keys)
        return lower(tiling(slices, whole=not request.requires_grad), request)

    def attend(
        self, q: Float[Tensor, "H Tq d"], k: Float[Tensor, "Hk Tk d"], v: Float[Tensor, "Hk Tk d"], plan: Plan
    ) -> Float[Tensor, "H Tq d"]:
        device = q.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):  # the kernel says itself what is float32
                return self.attend(q, k, v, plan)
        return _tiles(q, k, v, plan.table, plan.index, plan.bias, plan.kept)[0]


_tiles = torch.library.custom_op("transfuse::tiles", forward, mutates_args=())


@_tiles.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, table: Tensor, index: Tensor, bias: Tensor, kept: int):
    return answer(q), chunks(q, kept)


_tiles_backward = torch.library.custom_op("transfuse::tiles_backward", backward, mutates_args=())


@_tiles_backward.register_fake
def _(grad, q, k, v, table, index, bias, weights):
    return answer(q), answer(k), answer(v)


def _keep(ctx, inputs, output) -> None:
    q, k, v, table, index, bias, _ = inputs
    ctx.set_materialize_grads(
        False
    )  # else the kept weights' gradients, which nobody asks for, are made as zeros
    ctx.save_for_backward(q, k, v, table, index, bias, *output[1])


def _back(ctx, grad: Tensor | None, _: list[Tensor | None]):
    if grad is None:
        return None, None, None, None, None, None, None
    q, k, v, table, index, bias, *weights = ctx.saved_tensors
    return *_tiles_backward(grad, q, k, v, table, index, bias, weights), None, None, None, None


_tiles.register_autograd(_back, setup_context=_keep)
