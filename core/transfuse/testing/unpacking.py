"""Rows taken apart again: what packing has to give back."""

from collections.abc import Iterable

import numpy as np

from transfuse.masks import NONE
from transfuse.sequences.rows import Row
from transfuse.sequences.sequence import ROW_COLUMNS, DocumentSequence, columns_of


def unpack(rows: Iterable[Row]) -> list[DocumentSequence]:
    """The documents of the rows, in the order in which they were packed: the inverse of ``pack``."""
    found: dict[int, DocumentSequence] = {}
    for row in rows:
        for i, arrival in enumerate(row.arrivals):
            found[arrival] = _document(row, i)
    return [found[arrival] for arrival in sorted(found)]


def _document(row: Row, i: int) -> DocumentSequence:
    start, stop = row.bounds[i], row.bounds[i + 1]
    columns = {name: row.columns[name] for name in row.kinds if name not in ROW_COLUMNS}
    table = np.stack([row.tokens, row.targets, row.scored, *columns.values()])[:, start:stop]
    span = columns_of(row.kinds, table)["span"]
    first = span[span != NONE].min(initial=np.iinfo(np.int64).max)
    span[span != NONE] -= first
    return DocumentSequence(
        document=int(row.columns["sample"][start]),
        visit=row.visits[i],
        source=row.sources[i],
        kinds=row.kinds,
        table=table,
        spans=tuple(p.moved(-start) for p in row.spans if start <= p.start < stop),
    )
