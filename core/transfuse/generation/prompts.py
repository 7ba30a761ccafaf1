"""Prompts as one packed row, each computed once: those that are asked repeatedly, and what views have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from transfuse.config.recipe import GUIDANCE_VIEW
from transfuse.documents import Document, View
from transfuse.masks import Mask, k, q, same
from transfuse.sequences.layout import DocumentCursor, Layout
from transfuse.sequences.rows import Row, join
from transfuse.sequences.sequence import DocumentSequence


@dataclass(frozen=True, eq=False)
class LaidPrompt:
    """A document laid out in each view, and where each goes on."""

    document: Document
    sequences: tuple[DocumentSequence, ...]
    cursors: tuple[DocumentCursor, ...]

    @classmethod
    def of(cls, document: Document, layout: Layout, views: Sequence[View]) -> "LaidPrompt":
        payloads = layout.payloads(document)
        laid = []
        for view in views:
            kept = [p for item, p in zip(document.items, payloads, strict=True) if view.keeps(item)]
            laid.append(layout.prompt(document.seen(view), kept))
        return cls(document, tuple(s for s, _ in laid), tuple(c for _, c in laid))

    def __len__(self) -> int:
        """Positions of its longest view."""
        return max(map(len, self.sequences))

    def shared(self) -> int:
        """How many positions all views begin with, none of which is part of a span that goes on behind them."""
        first, *others = self.sequences
        n = min(map(len, self.sequences))
        for other in others:
            pairs = [
                (first.tokens, other.tokens),
                *((first.columns[c], other.columns[c]) for c in first.columns),
            ]
            apart = np.flatnonzero(np.any([a[:n] != b[:n] for a, b in pairs], axis=0))
            n = int(apart[0]) if apart.size else n
            for a, b in zip(first.spans, other.spans, strict=False):
                n = n if np.array_equal(a.span.payload, b.span.payload) else min(n, a.start, b.start)
        for place in first.spans:
            start, stop = place.start, place.start + place.span.length
            n = start if start < n < stop else n
        return n


@dataclass(frozen=True, eq=False)
class PackedPrompts:
    """A row of prompts, and where each of its positions is wanted: a position may serve several views and documents.

    rule: who sees whom in the row. source, view, document, place: position ``source`` is the one at ``place`` of a
    document's view. last: by document, the last position of view 0.
    """

    row: Row
    rule: Mask
    source: Int[np.ndarray, " n"]
    view: Int[np.ndarray, " n"]
    document: Int[np.ndarray, " n"]
    place: Int[np.ndarray, " n"]
    last: Int[np.ndarray, " documents"]


def pack_prompts(prompts: Sequence[LaidPrompt], mask: Mask) -> PackedPrompts:
    """The prompts of a chunk; one that stands in it several times, as the same object, is laid out once.

    What the views of a document share stands in the row once, seen by all of them, and the rest of each view
    sees that and itself; unless under this mask what is shared sees what is not.
    """
    unique = list({id(prompt): prompt for prompt in prompts}.values())
    packed = _packed(prompts, unique, [prompt.shared() for prompt in unique], mask)
    leak = mask & same("doc") & ~getattr(q, GUIDANCE_VIEW) & getattr(k, GUIDANCE_VIEW)
    if len(unique[0].sequences) > 1 and len(leak.slices(packed.row.columns)):
        packed = _packed(prompts, unique, [0] * len(unique), mask)
    return packed


def _packed(
    prompts: Sequence[LaidPrompt], unique: Sequence[LaidPrompt], shared: Sequence[int], mask: Mask
) -> PackedPrompts:
    views = range(len(unique[0].sequences))
    pieces: list[DocumentSequence] = []
    columns: dict[str, list[np.ndarray]] = {"doc": [], "idx": [], GUIDANCE_VIEW: []}
    where: dict[int, list[np.ndarray]] = {}  # by prompt: each view's positions in the row
    at = 0
    for number, (prompt, n) in enumerate(zip(unique, shared, strict=True)):
        parts = [(0, prompt.sequences[0].slice(0, n), 0)]
        parts += [(v + 1, prompt.sequences[v].slice(n, len(prompt.sequences[v])), n) for v in views]
        common, *own = (np.arange(at, at := at + len(piece)) for _, piece, _ in parts)
        where[id(prompt)] = [np.concatenate([common, rest]) for rest in own]
        for view, piece, start in parts:
            size = len(piece)
            pieces += [piece] * (size > 0)
            columns["doc"].append(np.full(size, number))
            columns["idx"].append(np.arange(start, start + size))
            columns[GUIDANCE_VIEW].append(np.full(size, view))
    row = join(pieces)
    row = replace(row, columns={**row.columns, **{c: np.concatenate(parts) for c, parts in columns.items()}})
    placed = [(v, d, where[id(prompt)][v]) for v in views for d, prompt in enumerate(prompts)]
    return PackedPrompts(
        row,
        mask & same("doc") & (same(GUIDANCE_VIEW) | ~getattr(k, GUIDANCE_VIEW)),
        source=np.concatenate([rows for _, _, rows in placed]),
        view=np.repeat([v for v, _, _ in placed], [len(rows) for _, _, rows in placed]),
        document=np.repeat([d for _, d, _ in placed], [len(rows) for _, _, rows in placed]),
        place=np.concatenate([np.arange(len(rows)) for _, _, rows in placed]),
        last=np.array([rows[-1] for _, _, rows in placed[: len(prompts)]]),
    )
