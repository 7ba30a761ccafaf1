"""One document as a sequence of positions: columns, tokens, targets, and spans to embed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from transfuse.masks import NONE
from transfuse.modalities.modality import Column, Span

ROW_COLUMNS = ("doc", "idx", "sample")
"""Columns that a document gets when it is packed into a row."""


@dataclass(frozen=True, eq=False)
class PlacedSpan:
    """A span of a modality that is not made of ids, and where its positions start.

    is_context: later items of the document are predicted from it.
    document, visit: what its noise is keyed by, with ``item``.
    """

    modality: str
    span: Span
    start: int
    item: int
    is_context: bool
    document: int
    visit: int
    source: str


@dataclass(frozen=True, eq=False)
class DocumentSequence:
    """One document as ``T`` positions.

    columns: integer arrays ``[T]`` for masks and rotary positions: ``pos``, ``span``, ``item``,
        ``mod``, ``noised``, ``marker``, a flag a modality, and what plugins add.
    kinds: ids or flags, by column.
    tokens: vocabulary id at each position, -1 where a span's vectors stand.
    targets: the id to predict at each position, -1 where none is.
    scored: index of the modality whose loss the target belongs to, -1 where none.
    spans: what is to be embedded by its own modality.
    """

    document: int
    visit: int
    source: str
    columns: dict[str, np.ndarray]
    kinds: Mapping[str, Column]
    tokens: np.ndarray
    targets: np.ndarray
    scored: np.ndarray
    spans: tuple[PlacedSpan, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def slice(self, start: int, stop: int, tokens: np.ndarray | None = None) -> "DocumentSequence":
        """Positions ``start … stop - 1``, with other tokens if given; spans not wholly inside are left out."""
        return replace(
            self,
            columns={name: column[start:stop] for name, column in self.columns.items()},
            tokens=self.tokens[start:stop] if tokens is None else tokens,
            targets=self.targets[start:stop],
            scored=self.scored[start:stop],
            spans=tuple(
                replace(p, start=p.start - start)
                for p in self.spans
                if start <= p.start and p.start + p.span.length <= stop
            ),
        )

    def without_loss(self, scored: int) -> "DocumentSequence":
        """The same positions, with nothing to predict where modality number ``scored`` was."""
        left = {
            name: np.where(self.scored != scored, getattr(self, name), NONE) for name in ("targets", "scored")
        }
        return replace(self, **left)
