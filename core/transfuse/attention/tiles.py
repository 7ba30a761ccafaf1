"""Attention in tiles: the CPU's training path. It computes little more than the allowed pairs, never T×T.

Forward and backward are registered custom operators, so that torch.compile keeps them whole. The weights
(the softmaxed scores of the tiles) are kept for the backward pass up to `KEPT` bytes, else computed again.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.attention.backend import Backend, Plan, Request
from transfuse.attention.tiling import Batch, tiling
from transfuse.masks import Columns, Mask

KEPT = 256 * 2**20
"""Bytes of weights that one layer may keep between forward and backward."""


@dataclass(frozen=True, eq=False)
class TilesPlan:
    """Batches of tiles as three tensors, which is what a custom operator can take.

    `table` int64 [batches, 13] on the CPU holds shapes and offsets (see `_Entry`) into `index` (int64) and
    `bias` (float32), which live on the request's device. `kept` is the number of weights a head keeps.
    """

    table: Tensor
    index: Tensor
    bias: Tensor
    kept: int


@dataclass(frozen=True)
class _Entry:
    """One row of the table. An offset of −1 says that there is no such list."""

    B: int
    n: int
    m: int
    query: int
    """First query if the batch's queries are consecutive, else −1."""
    key: int
    """First key if B = 1 and its keys are consecutive, else −1."""
    queries: int
    """Offset of the queries of all rows [B·n]; −1 if consecutive."""
    keys: int
    """Offset of the keys of all columns [B·m]; −1 if consecutive."""
    real: int
    """Offset of the rows that are not padding: their count, their places in [B·n], their queries."""
    rounds: int
    """Offset of the scatter of key gradients: the number of rounds, then of each count, places, keys."""
    p0: int
    p1: int
    bias: int
    """Offset of the bias [shared ? 1 : B, n, p1 − p0]."""
    shared: int


class Tiles(Backend):
    """Blocks of queries times the keys they see; small documents run as one batch."""

    name = "tiles"

    def supports(self, request: Request) -> list[str]:
        return []

    def plan(self, mask: Mask, queries: Columns, keys: Columns | None, request: Request) -> Plan:
        return lower(tiling(mask.slices(queries, keys)), request)

    def attend(
        self, q: Float[Tensor, "H Tq d"], k: Float[Tensor, "Hk Tk d"], v: Float[Tensor, "Hk Tk d"], plan: Plan
    ) -> Float[Tensor, "H Tq d"]:
        return _tiles(q, k, v, plan.table, plan.index, plan.bias, plan.kept)[0]


def lower(batches: list[Batch], request: Request, keep: int = KEPT) -> TilesPlan:
    """Tiles as a plan that keeps at most `keep` bytes of weights a layer."""
    lists: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    used = [0, 0]

    def put(*arrays: np.ndarray | list[int]) -> int:
        at = used[0]
        for array in arrays:
            lists.append(np.asarray(array, np.int64).reshape(-1))
            used[0] += lists[-1].size
        return at

    rows = []
    for batch in batches:
        B, n = batch.queries.shape
        m = batch.keys.shape[1]
        first_q, first_k = int(batch.queries[0, 0]), int(batch.keys[0, 0])
        flat = batch.queries.reshape(-1)
        in_line_q = batch.real_rows is None and bool((flat == np.arange(first_q, first_q + B * n)).all())
        in_line_k = B == 1 and batch.real_columns is None and int(batch.keys[0, -1]) - first_k == m - 1
        real = -1
        if batch.real_rows is not None:
            places = np.flatnonzero(batch.real_rows)
            real = put([len(places)], places, flat[places])
        bias = -1
        if batch.bias is not None:
            biases.append(batch.bias.reshape(-1))
            bias, used[1] = used[1], used[1] + batch.bias.size
        rows.append(
            _Entry(
                B,
                n,
                m,
                first_q if in_line_q else -1,
                first_k if in_line_k else -1,
                -1 if in_line_q else put(flat),
                -1 if in_line_k else put(batch.keys),
                real,
                _rounds(batch, put) if request.requires_grad and not in_line_k else -1,
                *batch.partial,
                bias,
                int(batch.bias is not None and len(batch.bias) == 1),
            )
        )
    kept = sum(entry.B * entry.n * entry.m for entry in rows)
    itemsize = torch.promote_types(request.dtype, torch.float32).itemsize
    fits = request.requires_grad and kept * request.heads * itemsize <= keep
    table = torch.tensor([list(vars(entry).values()) for entry in rows], dtype=torch.int64).reshape(
        len(rows), 13
    )
    index = torch.from_numpy(np.concatenate([*lists, np.zeros(0, np.int64)])).to(request.device)
    bias = torch.from_numpy(np.concatenate([*biases, np.zeros(0, np.float32)])).to(request.device)
    return TilesPlan(table, index, bias, kept if fits else 0)


def _rounds(batch: Batch, put) -> int:
    """Key gradients of a batch are added in rounds in which no key comes twice."""
    flat = batch.keys.reshape(-1)
    places = np.arange(len(flat)) if batch.real_columns is None else np.flatnonzero(batch.real_columns)
    order = places[np.argsort(flat[places], kind="stable")]
    key = flat[order]
    new = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    nth = np.arange(len(key)) - np.repeat(new, np.diff(np.concatenate([new, [len(key)]])))
    count = int(nth.max()) + 1
    parts: list[np.ndarray | list[int]] = [[count]]
    for turn in range(count):
        now = nth == turn
        parts += [[int(now.sum())], order[now], key[now]]
    return put(*parts)


def _entries(table: Tensor) -> list[_Entry]:
    return [_Entry(*row) for row in table.tolist()]


def _queries(x: Tensor, entry: _Entry, index: Tensor, groups: int) -> Tensor:
    """The batch's rows of x [H, Tq, d] as [Hk·B, groups·n, d]; a view where they are consecutive."""
    B, n = entry.B, entry.n
    if entry.query >= 0:
        x = x[:, entry.query : entry.query + B * n]
    else:
        x = x.index_select(1, index[entry.queries : entry.queries + B * n])
    if groups == 1:
        return x if B == 1 else x.reshape(-1, n, x.shape[2])
    return x.reshape(-1, groups, B, n, x.shape[2]).transpose(1, 2).reshape(-1, groups * n, x.shape[2])


def _put_queries(out: Tensor, x: Tensor, entry: _Entry, index: Tensor, groups: int) -> None:
    """The opposite: write [Hk·B, groups·n, d] to its rows of out [H, Tq, d], leaving out padding."""
    B, n, d = entry.B, entry.n, out.shape[2]
    if groups > 1:
        x = x.reshape(-1, B, groups, n, d).transpose(1, 2)
    x = x.reshape(len(out), B * n, d)
    if entry.query >= 0:
        out[:, entry.query : entry.query + B * n] = x
    elif entry.real >= 0:
        count = int(index[entry.real])
        places, rows = index[entry.real + 1 : entry.real + 1 + 2 * count].view(2, count)
        out.index_copy_(1, rows, x.index_select(1, places).to(out.dtype))
    else:
        out.index_copy_(1, index[entry.queries : entry.queries + B * n], x.to(out.dtype))


def _keys(x: Tensor, entry: _Entry, index: Tensor) -> Tensor:
    """The batch's keys of x [Hk, Tk, d] as [Hk·B, m, d]; a view where they are consecutive."""
    if entry.key >= 0:
        return x[:, entry.key : entry.key + entry.m]
    x = x.index_select(1, index[entry.keys : entry.keys + entry.B * entry.m])
    return x.reshape(-1, entry.m, x.shape[2])


def _add_keys(grad: Tensor, left: Tensor, right: Tensor, scale: float, entry: _Entry, index: Tensor) -> None:
    """Add scale · leftᵀ right [Hk·B, m, d] to the batch's keys of grad [Hk, Tk, d]."""
    if entry.key >= 0 and grad.dtype == left.dtype:
        grad[:, entry.key : entry.key + entry.m].baddbmm_(left.mT, right, alpha=scale)
        return
    part = torch.baddbmm(left.new_empty(()), left.mT, right, beta=0, alpha=scale)
    if entry.key >= 0:
        grad[:, entry.key : entry.key + entry.m] += part
        return
    part = part.reshape(len(grad), -1, grad.shape[2])
    at = entry.rounds + 1
    for _ in range(int(index[entry.rounds])):
        count = int(index[at])
        places, rows = index[at + 1 : at + 1 + 2 * count].view(2, count)
        at += 1 + 2 * count
        grad.index_copy_(1, rows, grad.index_select(1, rows) + part.index_select(1, places))


def _weights(q: Tensor, k: Tensor, entry: _Entry, bias: Tensor, groups: int, out: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √d + bias) of a batch [Hk·B, groups·n, m]."""
    scores = torch.baddbmm(q.new_empty(()), q, k.mT, beta=0, alpha=q.shape[2] ** -0.5, out=out)
    if entry.bias >= 0:
        width = entry.p1 - entry.p0
        size = entry.n * width * (1 if entry.shared else entry.B)
        part = bias[entry.bias : entry.bias + size].view(1, -1, 1, entry.n, width)
        scores.view(-1, entry.B, groups, entry.n, entry.m)[..., entry.p0 : entry.p1] += part
    return torch.softmax(scores, -1, out=scores)


def _wide(x: Tensor) -> Tensor:
    """Half precision is computed in float32, tile by tile."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


@torch.library.custom_op("transfuse::tiles", mutates_args=())
def _tiles(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, index: Tensor, bias: Tensor, kept: int
) -> tuple[Tensor, Tensor]:
    """Attention [H, Tq, d] and the weights kept for the backward pass [H · kept]."""
    groups = len(q) // len(k)
    out = torch.zeros_like(q, memory_format=torch.contiguous_format)
    weights = q.new_empty(len(q) * kept, dtype=torch.promote_types(q.dtype, torch.float32))
    at = 0
    for entry in _entries(table):
        tile_q, tile_k = _wide(_queries(q, entry, index, groups)), _wide(_keys(k, entry, index))
        room = None
        if kept:
            size = len(q) * entry.B * entry.n * entry.m
            room = weights[at : at + size].view(-1, groups * entry.n, entry.m)
            at += size
        part = _weights(tile_q, tile_k, entry, bias, groups, room)
        _put_queries(out, torch.bmm(part, _wide(_keys(v, entry, index))), entry, index, groups)
    return out, weights


@_tiles.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, table: Tensor, index: Tensor, bias: Tensor, kept: int):
    weights = q.new_empty(len(q) * kept, dtype=torch.promote_types(q.dtype, torch.float32))
    return torch.empty_like(q, memory_format=torch.contiguous_format), weights


@torch.library.custom_op("transfuse::tiles_backward", mutates_args=())
def _tiles_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, weights: Tensor, table: Tensor, index: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v. dS = P ∘ (dP − rowsum(P ∘ dP)), as everywhere."""
    groups, scale = len(q) // len(k), q.shape[2] ** -0.5
    wide = weights.dtype
    grad_q = torch.zeros_like(q, memory_format=torch.contiguous_format)
    grad_k, grad_v = (torch.zeros(x.shape, dtype=wide, device=x.device) for x in (k, v))
    at = 0
    for entry in _entries(table):
        tile_q, tile_k = _wide(_queries(q, entry, index, groups)), _wide(_keys(k, entry, index))
        tile_g = _wide(_queries(grad, entry, index, groups))
        if entry.real >= 0:
            tile_g = tile_g * _real(entry, index, groups, tile_g)
        if len(weights):
            size = len(q) * entry.B * entry.n * entry.m
            part = weights[at : at + size].view(-1, groups * entry.n, entry.m)
            at += size
        else:
            part = _weights(tile_q, tile_k, entry, bias, groups, None)
        _add_keys(grad_v, part, tile_g, 1.0, entry, index)
        of_weights = torch.bmm(tile_g, _wide(_keys(v, entry, index)).mT)
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, part, -1, part.dtype)
        of_q = torch.baddbmm(tile_q.new_empty(()), of_scores, tile_k, beta=0, alpha=scale)
        _put_queries(grad_q, of_q, entry, index, groups)
        _add_keys(grad_k, of_scores, tile_q, scale, entry, index)
    return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype)


def _real(entry: _Entry, index: Tensor, groups: int, like: Tensor) -> Tensor:
    """1 for rows of a tile's own, 0 for padding, [Hk·B, groups·n, 1]."""
    real = like.new_zeros(entry.B * entry.n)
    count = int(index[entry.real])
    real[index[entry.real + 1 : entry.real + 1 + count]] = 1
    real = real.view(1, entry.B, 1, entry.n).expand(len(like) // entry.B, -1, groups, -1)
    return real.reshape(len(like), -1, 1)


@_tiles_backward.register_fake
def _(grad, q, k, v, weights, table, index, bias):
    return (
        torch.empty_like(q, memory_format=torch.contiguous_format),
        torch.empty_like(k, memory_format=torch.contiguous_format),
        torch.empty_like(v, memory_format=torch.contiguous_format),
    )


def _keep(ctx, inputs, output) -> None:
    q, k, v, table, index, bias, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, k, v, output[1], table, index, bias)


def _back(ctx, grad: Tensor, _: Tensor):
    return *torch.ops.transfuse.tiles_backward(grad, *ctx.saved_tensors), None, None, None, None


_tiles.register_autograd(_back, setup_context=_keep)
