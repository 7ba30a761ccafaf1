"""Documents that see only themselves, gathered into one block of memory, where those of one length are one product.

Queries, keys and values of all of them are read by one gather and their results by another, so that no batch of
tiles is put together by itself. Letters as in `transfuse_tiles.entry`; C heads of queries, keys and values in all,
R gathered rows, P of them a position's own and not padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from transfuse_tiles.entry import Entry, room
from transfuse_tiles.tiling import Batch


class Lists(NamedTuple):
    """Where which indices lie, at the head of the plan's."""

    taken: slice
    """Of queries, keys and values [T·C]: those of the block [R·C], batch by batch."""
    asked: slice
    """Of the answers' gradients [T·H]: those of the block [R·H]."""
    answers: slice
    """Of the block's answers [R·H]: those of the positions [P·H]."""
    gradients: slice
    """Of the block's gradients [R·C]: those of the positions [P·C]."""
    padding: slice
    """Of the block's answers [R·H]: those that are padding."""
    positions: slice
    """The positions [P], in order."""

    @classmethod
    def of(cls, batches: Sequence[Entry], H: int, G: int) -> "Lists":
        R, P, C = sum(e.B * e.n for e in batches), sum(e.own for e in batches), H + 2 * G
        sizes = [R * C, R * H, P * H, P * C, (R - P) * H, P]
        ends = np.cumsum(sizes).tolist()
        return cls(*(slice(end - size, end) for size, end in zip(sizes, ends, strict=True)))


def lists(batches: Sequence[Batch], H: int, G: int) -> list[np.ndarray]:
    """The indices of `Lists`, in its order, of batches whose queries are their keys."""
    C, groups, at = H + 2 * G, H // G, 0
    found: dict[str, list[np.ndarray]] = {name: [] for name in Lists._fields}
    for batch in batches:
        B, n, size = batch.B, batch.n, batch.B * batch.n
        row = batch.query + np.arange(size) if batch.queries is None else batch.queries
        row = row.reshape(1, B, 1, n)
        real = np.ones((B, n), bool) if batch.real_rows is None else batch.real_rows
        g, one = np.arange(G).reshape(G, 1, 1, 1), np.arange(groups).reshape(1, 1, groups, 1)
        found["taken"] += [row * C + g * groups + one, row * C + H + g, row * C + H + G + g]
        found["asked"] += [row * H + g * groups + one]
        # Places in the block: queries [G, B, groups, n], then keys and values [G, B, n] each.
        queries = np.arange(H * size).reshape(G, B, groups, n).transpose(1, 3, 0, 2).reshape(B, n, H)
        others = np.arange(2 * G * size).reshape(2 * G, B, n).transpose(1, 2, 0) + H * size
        found["answers"] += [H * at + queries[real]]
        found["gradients"] += [C * at + np.concatenate([queries, others], axis=2)[real]]
        found["padding"] += [H * at + queries[~real]]
        found["positions"] += [row.reshape(B, n)[real]]
        at += size
    if not batches:
        return []
    order = np.argsort(np.concatenate(found["positions"]))
    for name in ("answers", "gradients", "positions"):
        found[name] = [np.concatenate(found[name])[order]]
    return [part for parts in found.values() for part in parts]


class Tile(NamedTuple):
    """A batch's part of the block: queries [G·B, groups·n, d], keys and values [G·B, n, d]."""

    q: Tensor
    k: Tensor
    v: Tensor

    @classmethod
    def of(cls, block: Tensor, entry: Entry, G: int, groups: int) -> "Tile":
        rows, n, d, C = entry.B * entry.n, entry.n, block.shape[1], (groups + 2) * G
        part = block.narrow(0, C * entry.query, C * rows)
        q, k, v = part.split([groups * G * rows, G * rows, G * rows])
        return cls(q.view(-1, groups * n, d), k.view(-1, n, d), v.view(-1, n, d))


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    batches: Sequence[Entry],
    index: Tensor,
    bias: Tensor,
    weights: list[Tensor],
) -> tuple[Tensor, Tensor]:
    """Attention of the positions [P, H, d] in row order, and the block [R·C, d]."""
    H, G, d, dtype = len(q), len(k), q.shape[2], q.dtype
    at = Lists.of(batches, H, G)
    block = side_by_side(q, k, v).index_select(0, index[at.taken])
    wide = block.to(torch.promote_types(dtype, torch.float32))
    out = wide.new_empty(at.asked.stop - at.asked.start, d)
    for entry in batches:
        tile = Tile.of(wide, entry, G, H // G)
        torch.bmm(_scores(tile, entry, bias, G, H, weights), tile.v, out=_answers(out, entry, H, H // G))
    return out.to(dtype).index_select(0, index[at.answers]).view(-1, H, d), block


def backward(
    grad: Tensor,
    block: Tensor,
    G: int,
    batches: Sequence[Entry],
    index: Tensor,
    bias: Tensor,
    weights: list[Tensor],
) -> Tensor:
    """Gradients of the positions' queries, keys and values side by side, [P, C, d]."""
    (H, _, d), dtype, groups = grad.shape, grad.dtype, len(grad) // G
    at = Lists.of(batches, H, G)
    asked = grad.transpose(0, 1).reshape(-1, d).index_select(0, index[at.asked])
    asked.index_fill_(0, index[at.padding], 0)
    wide = torch.promote_types(dtype, torch.float32)
    asked, block = asked.to(wide), block.to(wide)
    out, none, scale = torch.empty_like(block), block.new_empty(()), d**-0.5
    scratch = block.new_empty(H * max(e.B * e.n * e.n for e in batches))
    for entry in batches:
        tile, of, asks = (
            Tile.of(block, entry, G, groups),
            Tile.of(out, entry, G, groups),
            _answers(asked, entry, H, groups),
        )
        kept = (
            room(weights, entry, H, groups) if entry.chunk >= 0 else _scores(tile, entry, bias, G, H, weights)
        )
        torch.bmm(kept.mT, asks, out=of.v)
        scores = torch.bmm(asks, tile.v.mT, out=scratch.as_strided(kept.shape, kept.stride()))
        torch.ops.aten._softmax_backward_data.out(scores, kept, -1, kept.dtype, grad_input=scores)
        torch.baddbmm(none, scores, tile.k, beta=0, alpha=scale, out=of.q)
        torch.baddbmm(none, scores.mT, tile.q, beta=0, alpha=scale, out=of.k)
    return out.to(dtype).index_select(0, index[at.gradients]).view(-1, H + 2 * G, d)


def side_by_side(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[T·C, d], each position's queries, keys and values in turn: a view where they lie so."""
    parts, d = [x.transpose(0, 1) for x in (q, k, v)], q.shape[2]
    C, place = sum(part.shape[1] for part in parts), q.storage_offset()
    for part in parts:
        near = part.untyped_storage().data_ptr() == q.untyped_storage().data_ptr()
        if not near or part.storage_offset() != place or part.stride() != (C * d, d, 1):
            return torch.cat(parts, dim=1).view(-1, d)
        place += part.shape[1] * d
    return q.as_strided((len(parts[0]) * C, d), (d, 1))


def _answers(x: Tensor, entry: Entry, H: int, groups: int) -> Tensor:
    """A batch's part of the block's answers or their gradients [R·H, d], as [G·B, groups·n, d]."""
    return x.narrow(0, H * entry.query, H * entry.B * entry.n).view(-1, groups * entry.n, x.shape[1])


def _scores(tile: Tile, entry: Entry, bias: Tensor, G: int, H: int, weights: list[Tensor]) -> Tensor:
    """softmax(q kᵀ / √d + bias) of a batch [G·B, groups·n, n], where it is kept if it is."""
    B, n, scale, groups = entry.B, entry.n, tile.q.shape[2] ** -0.5, H // G
    kept = entry.chunk >= 0
    out = room(weights, entry, H, groups) if kept else tile.q.new_empty(G * B, groups * n, n)
    if entry.bias < 0:
        torch.baddbmm(out.new_empty(()), tile.q, tile.k.mT, beta=0, alpha=scale, out=out)
    else:
        own = 1 if entry.shared else B
        out.view(G, B, groups, n, n).copy_(bias.narrow(0, entry.bias, own * n * n).view(1, own, 1, n, n))
        out.baddbmm_(tile.q, tile.k.mT, alpha=scale)
    return torch.ops.aten._softmax.out(out, -1, False, out=out)
