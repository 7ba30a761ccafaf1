"""A row: documents laid end to end as one run of positions."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.masks import NONE
from transfuse.modalities.modality import Column
from transfuse.sequences.sequence import ROW_COLUMNS, DocumentSequence, PlacedSpan, columns_of


@dataclass(frozen=True, eq=False)
class Row:
    """Several documents as one run of ``T`` positions, with row-wide ``doc``, ``idx`` and ``span``.

    columns: a document's columns and ``doc``, ``idx``, ``sample``; filler has no id and no flag.
    kinds: ids or flags, by column.
    bounds: document i stands at ``bounds[i] … bounds[i+1] - 1``.
    arrivals: the place of each document in the stream that was packed.
    """

    columns: dict[str, np.ndarray]
    kinds: Mapping[str, Column]
    tokens: np.ndarray
    targets: np.ndarray
    scored: np.ndarray
    spans: tuple[PlacedSpan, ...]
    bounds: tuple[int, ...]
    arrivals: tuple[int, ...]
    sources: tuple[str, ...]
    visits: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def used(self) -> int:
        """Positions that hold documents; the rest is filler."""
        return self.bounds[-1]


def join(
    sequences: list[DocumentSequence], arrivals: list[int] | None = None, length: int | None = None
) -> Row:
    """One row of these documents, in this order, filled to ``length`` if given."""
    sizes, first = [len(s) for s in sequences], sequences[0]
    bounds = [0, *accumulate(sizes)]
    filler = max(0, (length or 0) - bounds[-1])
    for s in sequences:
        if s.kinds is not first.kinds and [*s.kinds] != [*first.kinds]:
            differing = ", ".join(sorted(s.kinds.keys() ^ first.kinds.keys())) or "in another order"
            raise TransfuseError(f"{s.source}: laid out with other columns than {first.source}: {differing}")
    empty = [NONE] * 3 + [kind for name, kind in first.kinds.items() if name not in ROW_COLUMNS]
    table = np.empty((len(empty), bounds[-1] + filler), np.int64)
    np.concatenate([s.table for s in sequences], axis=1, out=table[:, : bounds[-1]])
    table[:, bounds[-1] :] = np.array(empty)[:, None]
    columns = columns_of(first.kinds, table)
    of = [*sizes, filler]
    spans = np.maximum.reduceat(columns["span"], bounds[:-1]) + 1
    shift = np.repeat([*np.cumsum(spans) - spans, 0], of)
    columns["span"] = np.where(columns["span"] == NONE, NONE, columns["span"] + shift)
    columns["doc"] = np.repeat([*range(len(sequences)), NONE], of)
    columns["sample"] = np.repeat([*(s.document for s in sequences), NONE], of)
    columns["idx"] = np.arange(bounds[-1] + filler)
    return Row(
        columns=columns,
        kinds=first.kinds,
        tokens=table[0],
        targets=table[1],
        scored=table[2],
        spans=tuple(p.moved(at) for s, at in zip(sequences, bounds, strict=False) for p in s.spans),
        bounds=tuple(bounds),
        arrivals=tuple(arrivals if arrivals is not None else range(len(sequences))),
        sources=tuple(s.source for s in sequences),
        visits=tuple(s.visit for s in sequences),
    )
