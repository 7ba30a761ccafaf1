"""One document as a sequence of positions: columns, tokens, targets, and spans to embed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int

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

    def moved(self, by: int) -> "PlacedSpan":
        """The same, so many positions later."""
        other = object.__new__(PlacedSpan)  # a tenth of what `replace` takes
        vars(other).update(vars(self), start=self.start + by)
        return other


@dataclass(frozen=True, eq=False)
class DocumentSequence:
    """One document as ``T`` positions.

    kinds: ids or flags, by column, those of a row among them.
    table: whole numbers, a row each for ``tokens``, ``targets``, ``scored`` and the columns, in the order of ``kinds``.
    spans: what is to be embedded by its own modality.

    columns: for masks and rotary positions, ``[T]`` each: ``pos``, ``span``, ``item``, ``mod``, ``noised``,
        ``marker``, a flag a modality, and what plugins add.
    tokens: vocabulary id at each position, -1 where a span's vectors stand.
    targets: the id to predict at each position, -1 where none is.
    scored: index of the modality whose loss the target belongs to, -1 where none.
    """

    document: int
    visit: int
    source: str
    kinds: Mapping[str, Column]
    table: Int[np.ndarray, "rows T"]
    spans: tuple[PlacedSpan, ...]

    def __len__(self) -> int:
        return self.table.shape[1]

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        return columns_of(self.kinds, self.table)

    @property
    def tokens(self) -> Int[np.ndarray, " T"]:
        return self.table[0]

    @property
    def targets(self) -> Int[np.ndarray, " T"]:
        return self.table[1]

    @property
    def scored(self) -> Int[np.ndarray, " T"]:
        return self.table[2]

    def slice(self, start: int, stop: int) -> "DocumentSequence":
        """Positions ``start … stop - 1``; spans not wholly inside are left out."""
        inside = (p for p in self.spans if start <= p.start and p.start + p.span.length <= stop)
        return replace(self, table=self.table[:, start:stop], spans=tuple(p.moved(-start) for p in inside))

    def without_loss(self, scored: int) -> "DocumentSequence":
        """The same positions, with nothing to predict where modality number ``scored`` was."""
        table = self.table.copy()
        table[1:3, self.scored == scored] = NONE
        return replace(self, table=table)


def columns_of(kinds: Mapping[str, Column], table: Int[np.ndarray, "rows T"]) -> dict[str, np.ndarray]:
    """The columns of a table by name."""
    return dict(zip((name for name in kinds if name not in ROW_COLUMNS), table[3:], strict=True))
