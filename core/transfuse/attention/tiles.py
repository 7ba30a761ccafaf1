"""Attention in tiles: the CPU's training path. It computes little more than the allowed pairs, never T×T.

Forward and backward are registered custom operators, so that torch.compile keeps them whole. The weights
(the softmaxed scores of the tiles) are kept for the backward pass up to `KEPT` chunks, else computed again.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from transfuse.attention.backend import Backend, Plan, Request
from transfuse.attention.tiling import Batch, tiling
from transfuse.errors import TransfuseError
from transfuse.masks import Columns, Mask

CHUNK = 2**20
"""Weights are kept in chunks of this many. Larger blocks of memory come fresh from the system at every step,
and touching their pages for the first time costs as much as computing what lies in them."""
KEPT = 64
"""Chunks of weights that one layer may keep between forward and backward; the rest is computed again."""


@dataclass(frozen=True, eq=False)
class TilesPlan:
    """Batches of tiles as three tensors, which is what a custom operator can take.

    `table` int64 [batches, 15] on the CPU holds shapes and offsets (see `_Entry`) into `index` (int64) and
    `bias` (float32), which live on the request's device. `kept` is the number of chunks of weights.
    """

    table: Tensor
    index: Tensor
    bias: Tensor
    kept: int


class _Entry(NamedTuple):
    """One row of the table. An offset of −1 says that there is no such list."""

    B: int
    n: int
    m: int
    query: int
    key: int
    """First query and key, where the batch's are consecutive, else −1."""
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
    chunk: int
    """In which chunk the weights are kept, or −1; and from where, times the number of heads."""
    at: int


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
        return _tiles(q, k, v, plan.table, plan.index, plan.bias, plan.kept)[0]


def lower(batches: list[Batch], request: Request, keep: int = KEPT) -> TilesPlan:
    """Tiles as a plan that keeps at most `keep` chunks of weights a layer."""
    space = _Space(CHUNK // request.heads, keep if request.requires_grad else 0)
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
        real = bias = -1
        if batch.real_rows is not None and batch.queries is not None:
            places = np.flatnonzero(batch.real_rows)
            real = put([len(places)], places, batch.queries.reshape(-1)[places])
        if batch.bias is not None:
            biases.append(batch.bias.reshape(-1))
            bias, used[1] = used[1], used[1] + batch.bias.size
        rows.append(
            _Entry(
                batch.B,
                batch.n,
                batch.m,
                batch.query,
                batch.key,
                -1 if batch.queries is None else put(batch.queries),
                -1 if batch.keys is None else put(batch.keys),
                real,
                -1 if batch.keys is None or not request.requires_grad else _rounds(batch, put),
                *batch.partial,
                bias,
                int(batch.bias is not None and len(batch.bias) == 1),
                *space.place(batch.B * batch.n * batch.m),
            )
        )
    table = torch.from_numpy(np.array(rows, np.int64).reshape(-1, 15))
    index = torch.from_numpy(np.concatenate([*lists, np.zeros(0, np.int64)])).to(request.device)
    bias = torch.from_numpy(np.concatenate([*biases, np.zeros(0, np.float32)])).to(request.device)
    return TilesPlan(table, index, bias, space.used)


class _Space:
    """Hands out room for weights, chunk after chunk."""

    def __init__(self, room: int, chunks: int) -> None:
        self.room, self.chunks = room, chunks
        self.used, self.at = 0, room

    def place(self, size: int) -> tuple[int, int]:
        """Chunk and offset for `size` weights a head; (−1, 0) if there is no room."""
        if size > self.room or (self.at + size > self.room and self.used == self.chunks):
            return -1, 0
        if self.at + size > self.room:
            self.used, self.at = self.used + 1, 0
        self.at += size
        return self.used - 1, self.at - size


def _rounds(batch: Batch, put) -> int:
    """Key gradients of a batch are added in rounds in which no key comes twice."""
    assert batch.keys is not None
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
    return [_Entry._make(row) for row in table.tolist()]


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
    size = entry.B * entry.m
    if entry.key >= 0:
        x = x[:, entry.key : entry.key + size]
        if entry.B == 1:
            return x
    else:
        x = x.index_select(1, index[entry.keys : entry.keys + size])
    return x.reshape(-1, entry.m, x.shape[2])


def _add_keys(grad: Tensor, left: Tensor, right: Tensor, scale: float, entry: _Entry, index: Tensor) -> None:
    """Add scale · leftᵀ right [Hk·B, m, d] to the batch's keys of grad [Hk, Tk, d]."""
    if entry.key >= 0 and entry.B == 1:
        grad[:, entry.key : entry.key + entry.m].baddbmm_(left.mT, right, alpha=scale)
        return
    part = torch.baddbmm(left.new_empty(()), left.mT, right, beta=0, alpha=scale)
    part = part.reshape(len(grad), -1, grad.shape[2])
    if entry.key < 0 and entry.rounds < 0:
        raise TransfuseError(
            "tiles: the plan was made for a request without gradients; plan with requires_grad=True"
        )
    if entry.key >= 0:
        grad[:, entry.key : entry.key + part.shape[1]] += part
        return
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


def forward(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, index: Tensor, bias: Tensor, kept: int
) -> tuple[Tensor, list[Tensor]]:
    """Attention [H, Tq, d] and the chunks of weights kept for the backward pass."""
    groups = len(q) // len(k)
    out = torch.zeros_like(q, memory_format=torch.contiguous_format)
    weights = _chunks(q, kept)
    for entry in _entries(table):
        tile_q, tile_k = _wide(_queries(q, entry, index, groups)), _wide(_keys(k, entry, index))
        tile_v = _wide(_keys(v, entry, index))
        if entry.chunk < 0 and entry.bias < 0:
            # Nothing masked and nothing kept, as in decoding: torch's kernel, which never writes the scores out.
            tile = F.scaled_dot_product_attention(tile_q[:, None], tile_k[:, None], tile_v[:, None])[:, 0]
        else:
            room = None if entry.chunk < 0 else _room(weights, entry, q, groups)
            tile = torch.bmm(_weights(tile_q, tile_k, entry, bias, groups, room), tile_v)
        _put_queries(out, tile, entry, index, groups)
    return out, weights


_tiles = torch.library.custom_op("transfuse::tiles", forward, mutates_args=())


@_tiles.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, table: Tensor, index: Tensor, bias: Tensor, kept: int):
    return torch.empty_like(q, memory_format=torch.contiguous_format), _chunks(q, kept)


def _chunks(q: Tensor, kept: int) -> list[Tensor]:
    return [q.new_empty(CHUNK, dtype=torch.promote_types(q.dtype, torch.float32)) for _ in range(kept)]


def _room(weights: list[Tensor], entry: _Entry, q: Tensor, groups: int) -> Tensor:
    """Where a batch's weights are kept, as [Hk·B, groups·n, m]."""
    start, size = len(q) * entry.at, len(q) * entry.B * entry.n * entry.m
    return weights[entry.chunk][start : start + size].view(-1, groups * entry.n, entry.m)


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor,
    index: Tensor,
    bias: Tensor,
    weights: list[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v. dS = P ∘ (dP − rowsum(P ∘ dP)), as everywhere."""
    groups, scale = len(q) // len(k), q.shape[2] ** -0.5
    wide = torch.promote_types(q.dtype, torch.float32)
    grad_q = torch.zeros_like(q, memory_format=torch.contiguous_format)
    grad_k, grad_v = (torch.zeros(x.shape, dtype=wide, device=x.device) for x in (k, v))
    for entry in _entries(table):
        tile_q, tile_k = _wide(_queries(q, entry, index, groups)), _wide(_keys(k, entry, index))
        tile_g = _wide(_queries(grad, entry, index, groups))
        if entry.real >= 0:
            tile_g = tile_g * _real(entry, index, groups, tile_g)
        kept = entry.chunk >= 0
        part = (
            _room(weights, entry, q, groups) if kept else _weights(tile_q, tile_k, entry, bias, groups, None)
        )
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


_tiles_backward = torch.library.custom_op("transfuse::tiles_backward", backward, mutates_args=())


@_tiles_backward.register_fake
def _(grad, q, k, v, table, index, bias, weights):
    return (
        torch.empty_like(q, memory_format=torch.contiguous_format),
        torch.empty_like(k, memory_format=torch.contiguous_format),
        torch.empty_like(v, memory_format=torch.contiguous_format),
    )


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
