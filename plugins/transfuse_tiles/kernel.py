"""Tiles, computed: forward and backward over plain tensors, as the custom operators call them.

At a thousand positions the time of a tile is near that of the calls it takes, so the loops make few: views by
`narrow`, one buffer for what lives no longer than a tile, one addition where columns are partly seen.

Letters: H query heads, Hk key heads, T positions; a batch has B tiles of n queries and m keys; `groups` = H / Hk.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transfuse.errors import TransfuseError

from transfuse_tiles import gathered
from transfuse_tiles.entry import Entry, answer, chunks, entries, room


def forward(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, index: Tensor, bias: Tensor, kept: int, rows: int
) -> tuple[Tensor, list[Tensor]]:
    """Attention [H, Tq, d], and what the backward pass needs: chunks of weights, behind the gathered block of
    ``rows`` rows where that holds all positions.

    Half precision is computed in float32: oneDNN, which multiplies bfloat16 on CPUs, makes code for each new shape,
    and in a row of documents of many lengths most tiles have one.
    """
    groups, dtype = len(q) // len(k), q.dtype
    weights, every = chunks(q, kept), entries(table)
    ours, part = [entry for entry in every if entry.gathered], None
    if ours:
        part, block = gathered.forward(q, k, v, ours, index, bias, weights)
        if len(ours) == len(every) and len(part) == q.shape[1]:
            return part.transpose(0, 1), [block, *weights] if rows else weights
    wide = torch.promote_types(dtype, torch.float32)
    q, k, v = q.to(wide), k.to(wide), v.to(wide)
    if len(every) == 1 and _bare(every[0]) and every[0].query == 0 and every[0].n == q.shape[1]:
        out = _unwritten(q, k, v, every[0], index, groups)
        return _ungrouped(out, every[0], groups).to(dtype), weights
    out, k_t = _answers(q, every), k.mT
    if part is not None:
        positions = index[gathered.Lists.of(ours, len(q), len(k)).positions]
        out.transpose(0, 1).index_copy_(0, positions, part.to(wide))
    for entry in every[len(ours) :]:
        if _bare(entry):
            tile = _unwritten(q, k, v, entry, index, groups)
        else:
            here = None if entry.chunk < 0 else room(weights, entry, len(q), groups)
            scores = _weights(_queries(q, entry, index, groups), k_t, entry, index, bias, groups, here)
            tile = torch.bmm(scores, _keys(v, entry, index))
        _put_queries(out, tile, entry, index, groups)
    return out.to(dtype), weights


def backward(
    grad: Tensor,
    qkv: list[Tensor],
    heads: int,
    table: Tensor,
    index: Tensor,
    bias: Tensor,
    weights: list[Tensor],
) -> list[Tensor]:
    """Gradients of q, k and v: [T, H + 2 Hk, d] in one, or each by itself where keys are others than the queries.

    qkv: the three, or the gathered block of all positions; heads: Hk. dS = P ∘ (dP − rowsum(P ∘ dP)), as everywhere.
    """
    every, dtype, groups = entries(table), grad.dtype, len(grad) // heads
    ours = [entry for entry in every if entry.gathered]
    if len(qkv) == 1:
        return [gathered.backward(grad, qkv[0], heads, ours, index, bias, weights)]
    q, k, v = qkv
    wide, scale = torch.promote_types(dtype, torch.float32), q.shape[2] ** -0.5
    outs = gradients(q, k, v, wide)
    grads = (
        [outs[0].split([len(q), heads, heads], 1)[i].transpose(0, 1) for i in range(3)]
        if len(outs) == 1
        else outs
    )
    grad_q, grad_k, grad_v = grads
    for each, covered in zip(
        grads, (sum(entry.own for entry in every) == q.shape[1], False, False), strict=True
    ):
        if not covered:
            each.zero_()
    if ours:
        at = gathered.Lists.of(ours, len(q), heads)
        block = gathered.side_by_side(q, k, v).index_select(0, index[at.taken])
        part = gathered.backward(grad, block, heads, ours, index, bias, weights)
        outs[0].index_copy_(0, index[at.positions], part.to(wide))
    grad, q, k, v = grad.to(wide), q.to(wide), k.to(wide), v.to(wide)
    k_t, v_t, none = k.mT, v.mT, q.new_empty(())
    rest = every[len(ours) :]
    scratch = q.new_empty(len(q) * max((e.B * e.n * e.m for e in rest), default=0))
    for entry in rest:
        tile_q, tile_g = _queries(q, entry, index, groups), _queries(grad, entry, index, groups)
        if entry.real >= 0:
            tile_g = tile_g * _real(entry, index, groups, tile_g)
        if entry.chunk >= 0:
            part = room(weights, entry, len(q), groups)
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
    return [out.to(dtype) for out in outs]


def gradients(q: Tensor, k: Tensor, v: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Room for what `backward` returns."""
    if q.shape[1] == k.shape[1]:
        return [q.new_empty(q.shape[1], len(q) + len(k) + len(v), q.shape[2], dtype=dtype)]
    return [answer(x).to(dtype) for x in (q, k, v)]


def _answers(q: Tensor, every: list[Entry]) -> Tensor:
    """Where a row for each query goes: 0 where no tile has the query."""
    out = answer(q)
    return out if sum(entry.own for entry in every) == q.shape[1] else out.zero_()


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
