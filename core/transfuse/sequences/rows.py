"""A row: documents laid end to end as one run of positions, and taken apart again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.masks import NONE
from transfuse.modalities.modality import Column
from transfuse.sequences.sequence import ROW_COLUMNS, DocumentSequence, PlacedSpan


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
    sizes = [len(s) for s in sequences]
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    filler = max(0, (length or 0) - int(bounds[-1]))
    names, kinds = sequences[0].columns.keys(), sequences[0].kinds
    for s in sequences:
        if s.columns.keys() != names:
            differing = ", ".join(sorted(s.columns.keys() ^ names))
            raise TransfuseError(
                f"{s.source}: laid out with other columns than {sequences[0].source}: {differing}"
            )

    def column(name: str) -> np.ndarray:
        return np.concatenate([*(s.columns[name] for s in sequences), np.full(filler, kinds[name])])

    columns = {name: column(name) for name in names}
    groups = np.cumsum([0, *(int(s.columns["span"].max()) + 1 for s in sequences)])
    shift = np.repeat([*groups[:-1], 0], [*sizes, filler])
    columns["span"] = np.where(columns["span"] == NONE, NONE, columns["span"] + shift)
    columns["doc"] = np.repeat([*range(len(sequences)), NONE], [*sizes, filler])
    columns["sample"] = np.repeat([*(s.document for s in sequences), NONE], [*sizes, filler])
    columns["idx"] = np.arange(bounds[-1] + filler)
    return Row(
        columns=columns,
        kinds=kinds,
        tokens=np.concatenate([*(s.tokens for s in sequences), np.full(filler, NONE)]),
        targets=np.concatenate([*(s.targets for s in sequences), np.full(filler, NONE)]),
        scored=np.concatenate([*(s.scored for s in sequences), np.full(filler, NONE)]),
        spans=tuple(
            replace(p, start=p.start + int(at))
            for s, at in zip(sequences, bounds[:-1], strict=True)
            for p in s.spans
        ),
        bounds=tuple(int(b) for b in bounds),
        arrivals=tuple(arrivals if arrivals is not None else range(len(sequences))),
        sources=tuple(s.source for s in sequences),
        visits=tuple(s.visit for s in sequences),
    )


def unpack(rows: Iterable[Row]) -> list[DocumentSequence]:
    """The documents of the rows, in the order in which they were packed: the inverse of ``pack``."""
    found: dict[int, DocumentSequence] = {}
    for row in rows:
        for i, arrival in enumerate(row.arrivals):
            found[arrival] = _document(row, i)
    return [found[arrival] for arrival in sorted(found)]


def _document(row: Row, i: int) -> DocumentSequence:
    start, stop = row.bounds[i], row.bounds[i + 1]
    columns = {name: c[start:stop] for name, c in row.columns.items() if name not in ROW_COLUMNS}
    span = columns["span"]
    first = span[span != NONE].min(initial=np.iinfo(np.int64).max)
    columns["span"] = np.where(span == NONE, NONE, span - first)
    return DocumentSequence(
        document=int(row.columns["sample"][start]),
        visit=row.visits[i],
        source=row.sources[i],
        columns=columns,
        kinds=row.kinds,
        tokens=row.tokens[start:stop],
        targets=row.targets[start:stop],
        scored=row.scored[start:stop],
        spans=tuple(replace(p, start=p.start - start) for p in row.spans if start <= p.start < stop),
    )
