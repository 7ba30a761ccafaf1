"""Tiles, computed: forward and backward over plain tensors, as the custom operators call them.

At a thousand positions the time of a tile is near that of the calls it takes, so the loops make few: views by
`narrow`, one buffer for what lives no longer than a tile, one addition where columns are partly seen.

Letters: H query heads, Hk key heads, T positions; a batch has B tiles of n queries and m keys; `groups` = H / Hk.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transfuse.errors import TransfuseError

CHUNK = 2**20
"""Weights are kept in chunks of this many. Larger blocks of memory come fresh from the system at every step,
and touching their pages for the first time costs as much as computing what lies in them."""


class Entry(NamedTuple):
    """One batch of tiles: a row of the plan's table. An offset of −1 says that there is no such list."""

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
    own: int
    """How many rows are not padding."""
    real: int
    """Offset of the rows that are not padding: their places in [B·n], then their queries; −1 if all are."""
    rounds: int
    """Offset of the scatter of key gradients: the number of rounds, then of each count, places, keys. −1 if
    the keys are consecutive or one tile's, which comes to no key twice."""
    p0: int
    p1: int
    bias: int
    """Offset of the bias [shared ? 1 : B, n, p1 − p0]."""
    shared: int
    chunk: int
    """In which chunk the weights are kept, or −1; and from where, times the number of heads."""
    at: int


def forward(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, index: Tensor, bias: Tensor, kept: int
) -> tuple[Tensor, list[Tensor]]:
    """Attention [H, Tq, d] and the chunks of weights kept for the backward pass.

    Half precision is computed in float32: oneDNN, which multiplies bfloat16 on CPUs, makes code for each new shape,
    and in a row of documents of many lengths most tiles have one.
    """
    groups, dtype = len(q) // len(k), q.dtype
    weights, entries = chunks(q, kept), _entries(table)
    wide = torch.promote_types(dtype, torch.float32)
    q, k, v = q.to(wide), k.to(wide), v.to(wide)
    if len(entries) == 1 and _bare(entries[0]) and entries[0].query == 0 and entries[0].n == q.shape[1]:
        out = _unwritten(q, k, v, entries[0], index, groups)
        return _ungrouped(out, entries[0], groups).to(dtype), weights
    out, k_t = _answers(q, entries), k.mT
    for entry in entries:
        if _bare(entry):
            tile = _unwritten(q, k, v, entry, index, groups)
        else:
            room = None if entry.chunk < 0 else _room(weights, entry, q, groups)
            scores = _weights(_queries(q, entry, index, groups), k_t, entry, index, bias, groups, room)
            tile = torch.bmm(scores, _keys(v, entry, index))
        _put_queries(out, tile, entry, index, groups)
    return out.to(dtype), weights


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
    groups, scale, dtype = len(q) // len(k), q.shape[2] ** -0.5, q.dtype
    wide = torch.promote_types(dtype, torch.float32)
    grad, q, k, v = grad.to(wide), q.to(wide), k.to(wide), v.to(wide)
    entries = _entries(table)
    grad_q, grad_k, grad_v = _answers(q, entries), _zeros(k), _zeros(v)
    k_t, v_t, none = k.mT, v.mT, q.new_empty(())
    scratch = q.new_empty(len(q) * max((e.B * e.n * e.m for e in entries), default=0))
    for entry in entries:
        tile_q, tile_g = _queries(q, entry, index, groups), _queries(grad, entry, index, groups)
        if entry.real >= 0:
            tile_g = tile_g * _real(entry, index, groups, tile_g)
        if entry.chunk >= 0:
            part = _room(weights, entry, q, groups)
        else:
            part = _weights(tile_q, k_t, entry, index, bias, groups, None)
        _add_keys(grad_v, part, tile_g, 1.0, entry, index)
        scores = torch.bmm(
            tile_g, _keys_t(v_t, entry, index), out=scratch.as_strided(part.shape, part.stride())
        )
        torch.ops.aten._softmax_backward_data.out(scores, part, -1, part.dtype, grad_input=scores)
        of_q = torch.baddbmm(none, scores, _keys(k, entry, index), beta=0, alpha=scale)
        _put_queries(grad_q, of_q, entry, index, groups)
        _add_keys(grad_k, scores, tile_q, scale, entry, index)
    return grad_q.to(dtype), grad_k.to(dtype), grad_v.to(dtype)


def chunks(q: Tensor, kept: int) -> list[Tensor]:
    """Room for ``kept`` weights of one layer, in chunks of which the last is no larger than it has to be."""
    wide = torch.promote_types(q.dtype, torch.float32)
    return [q.new_empty(min(CHUNK, kept - at), dtype=wide) for at in range(0, kept, CHUNK)]


def _entries(table: Tensor) -> list[Entry]:
    return [Entry._make(row) for row in table.tolist()]


def answer(x: Tensor) -> Tensor:
    """Room for [H, T, d], in which a position's heads lie side by side, as the layers around attention have them."""
    return x.new_empty(x.shape[1], x.shape[0], x.shape[2]).transpose(0, 1)


def _zeros(x: Tensor) -> Tensor:
    return answer(x).zero_()


def _answers(q: Tensor, entries: list[Entry]) -> Tensor:
    """Where a row for each query goes: 0 where no tile has the query."""
    out = answer(q)
    return out if sum(entry.own for entry in entries) == q.shape[1] else out.zero_()


def _bare(entry: Entry) -> bool:
    """Nothing masked and nothing kept, as in decoding: torch's kernel, which never writes the scores out."""
    return entry.chunk < 0 and entry.bias < 0


def _unwritten(q: Tensor, k: Tensor, v: Tensor, entry: Entry, index: Tensor, groups: int) -> Tensor:
    """Attention of a batch in which all see all, [Hk·B, groups·n, d]."""
    tile = (_queries(q, entry, index, groups), _keys(k, entry, index), _keys(v, entry, index))
    one, two, three = (x.unsqueeze(1) for x in tile)
    return F.scaled_dot_product_attention(one, two, three).squeeze(1)


def _take(x: Tensor, B: int, n: int, first: int, at: int, index: Tensor) -> Tensor:
    """B·n positions of x [H, T, d] as [H·B, n, d]; a view where they are consecutive."""
    x = x.narrow(1, first, B * n) if first >= 0 else x.index_select(1, index.narrow(0, at, B * n))
    return x if B == 1 else x.reshape(-1, n, x.shape[2])


def _queries(x: Tensor, entry: Entry, index: Tensor, groups: int) -> Tensor:
    """The batch's rows of x [H, Tq, d] as [Hk·B, groups·n, d]."""
    B, n = entry.B, entry.n
    if groups == 1:
        return _take(x, B, n, entry.query, entry.queries, index)
    x = _take(x, 1, B * n, entry.query, entry.queries, index)
    return x.reshape(-1, groups, B, n, x.shape[2]).transpose(1, 2).reshape(-1, groups * n, x.shape[2])


def _ungrouped(x: Tensor, entry: Entry, groups: int) -> Tensor:
    """The opposite: [Hk·B, groups·n, d] as [H, B·n, d]."""
    B, n, d = entry.B, entry.n, x.shape[2]
    if groups > 1:
        x = x.reshape(-1, B, groups, n, d).transpose(1, 2)
    return x.reshape(-1, B * n, d)


def _put_queries(out: Tensor, x: Tensor, entry: Entry, index: Tensor, groups: int) -> None:
    """Write [Hk·B, groups·n, d] to its rows of out [H, Tq, d], leaving out padding."""
    size = entry.B * entry.n
    if entry.B > 1 or groups > 1:
        x = _ungrouped(x, entry, groups)
    if entry.query >= 0:
        out.narrow(1, entry.query, size).copy_(x)
    elif entry.real >= 0:
        places, rows = index.narrow(0, entry.real, 2 * entry.own).view(2, -1)
        out.index_copy_(1, rows, x.index_select(1, places))
    else:
        out.index_copy_(1, index.narrow(0, entry.queries, size), x)


def _real(entry: Entry, index: Tensor, groups: int, like: Tensor) -> Tensor:
    """1 for rows of a tile's own, 0 for padding, [Hk·B, groups·n, 1]."""
    real = like.new_zeros(entry.B * entry.n)
    real[index.narrow(0, entry.real, entry.own)] = 1
    real = real.view(1, entry.B, 1, entry.n).expand(len(like) // entry.B, -1, groups, -1)
    return real.reshape(len(like), -1, 1)


def _keys(x: Tensor, entry: Entry, index: Tensor) -> Tensor:
    """The batch's keys of x [Hk, Tk, d] as [Hk·B, m, d]."""
    return _take(x, entry.B, entry.m, entry.key, entry.keys, index)


def _keys_t(x: Tensor, entry: Entry, index: Tensor) -> Tensor:
    """The same of xᵀ [Hk, d, Tk], as [Hk·B, d, m]."""
    if entry.B == 1 and entry.key >= 0:
        return x.narrow(2, entry.key, entry.m)
    return _keys(x.mT, entry, index).mT


def _add_keys(grad: Tensor, left: Tensor, right: Tensor, scale: float, entry: Entry, index: Tensor) -> None:
    """Add scale · leftᵀ right [Hk·B, m, d] to the batch's keys of grad [Hk, Tk, d]."""
    if entry.B == 1 and entry.key >= 0:
        grad.narrow(1, entry.key, entry.m).baddbmm_(left.mT, right, alpha=scale)
        return
    part = torch.baddbmm(left.new_empty(()), left.mT, right, beta=0, alpha=scale)
    part = part.reshape(len(grad), -1, grad.shape[2])
    if entry.key >= 0:
        grad.narrow(1, entry.key, part.shape[1]).add_(part)
    elif entry.B == 1:
        rows = index.narrow(0, entry.keys, entry.m)
        grad.index_copy_(1, rows, part.add_(grad.index_select(1, rows)))
    elif entry.rounds < 0:
        raise TransfuseError(
            "tiles: the plan was made for a request without gradients; plan with requires_grad=True"
        )
    else:
        _add_in_rounds(grad, part, entry, index)


def _add_in_rounds(grad: Tensor, part: Tensor, entry: Entry, index: Tensor) -> None:
    at = entry.rounds + 1
    for _ in range(int(index[entry.rounds])):
        count = int(index[at])
        places, rows = index.narrow(0, at + 1, 2 * count).view(2, count)
        at += 1 + 2 * count
        grad.index_copy_(1, rows, grad.index_select(1, rows) + part.index_select(1, places))


def _weights(
    q: Tensor, k_t: Tensor, entry: Entry, index: Tensor, bias: Tensor, groups: int, out: Tensor | None
) -> Tensor:
    """softmax(q kᵀ / √d + bias) of a batch [Hk·B, groups·n, m], from its q and all kᵀ."""
    keys = _keys_t(k_t, entry, index)
    scores = torch.baddbmm(q.new_empty(()), q, keys, beta=0, alpha=q.shape[2] ** -0.5, out=out)
    if entry.bias >= 0:
        B, n, m, wide = entry.B, entry.n, entry.m, entry.p1 - entry.p0
        if B == groups == 1:
            scores.narrow(2, entry.p0, wide).add_(bias.as_strided((n, wide), (wide, 1), entry.bias))
        else:
            part = bias.narrow(0, entry.bias, n * wide * (1 if entry.shared else B)).view(1, -1, 1, n, wide)
            scores.view(-1, B, groups, n, m)[..., entry.p0 : entry.p1] += part
    return torch.ops.aten._softmax.out(scores, -1, False, out=scores)


def _room(weights: list[Tensor], entry: Entry, q: Tensor, groups: int) -> Tensor:
    """Where a batch's weights are kept, as [Hk·B, groups·n, m]."""
    shape = (len(q) * entry.B // groups, groups * entry.n, entry.m)
    return weights[entry.chunk].as_strided(shape, (shape[1] * shape[2], shape[2], 1), len(q) * entry.at)
