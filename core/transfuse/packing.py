"""Documents are laid end to end in rows: no padding, no span ever cut, order kept inside a document."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.sequence import NONE, PlacedSpan, Sequence


@dataclass(frozen=True, eq=False)
class Row:
    """Several documents as one run of ``T`` positions, with row-wide ``doc``, ``idx`` and ``span``.

    columns: a document's columns and ``doc``, ``idx``, ``sample``; filler has ``doc`` = -1.
    bounds: document i stands at ``bounds[i] … bounds[i+1] - 1``.
    arrivals: the place of each document in the stream that was packed.
    """

    columns: dict[str, np.ndarray]
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


def join(sequences: list[Sequence], arrivals: list[int] | None = None, length: int | None = None) -> Row:
    """One row of these documents, in this order, filled to ``length`` if given."""
    sizes = [len(s) for s in sequences]
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    filler = max(0, (length or 0) - int(bounds[-1]))
    names = sorted({name for s in sequences for name in s.columns})

    def column(name: str) -> np.ndarray:
        values = np.concatenate([s.columns.get(name, np.full(len(s), NONE)) for s in sequences])
        flag = bool(((values == 0) | (values == 1)).all())
        return np.append(values, np.full(filler, 0 if flag else NONE)) if filler else values

    columns = {name: column(name) for name in names}
    groups = np.cumsum([0, *(int(s.columns["span"].max()) + 1 for s in sequences)])
    shift = np.repeat([*groups[:-1], 0], [*sizes, filler])
    columns["span"] = np.where(columns["span"] == NONE, NONE, columns["span"] + shift)
    columns["doc"] = np.repeat([*range(len(sequences)), NONE], [*sizes, filler])
    columns["sample"] = np.repeat([*(s.document for s in sequences), NONE], [*sizes, filler])
    columns["idx"] = np.arange(bounds[-1] + filler)
    return Row(
        columns=columns,
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


def unpack(rows: Iterable[Row]) -> list[Sequence]:
    """The documents of the rows, in the order in which they were packed: the inverse of ``pack``."""
    found: dict[int, Sequence] = {}
    for row in rows:
        for i, arrival in enumerate(row.arrivals):
            found[arrival] = _part(row, i)
    return [found[arrival] for arrival in sorted(found)]


def _part(row: Row, i: int) -> Sequence:
    start, stop = row.bounds[i], row.bounds[i + 1]
    columns = {name: c[start:stop] for name, c in row.columns.items() if name not in ("doc", "idx", "sample")}
    span = columns["span"]
    first = span[span != NONE].min(initial=np.iinfo(np.int64).max)
    columns["span"] = np.where(span == NONE, NONE, span - first)
    return Sequence(
        document=int(row.columns["sample"][start]),
        visit=row.visits[i],
        source=row.sources[i],
        columns=columns,
        tokens=row.tokens[start:stop],
        targets=row.targets[start:stop],
        scored=row.scored[start:stop],
        spans=tuple(replace(p, start=p.start - start) for p in row.spans if start <= p.start < stop),
    )


@dataclass
class Packer:
    """Packs a stream of documents into rows of at most ``budget`` positions.

    look_ahead: how many documents may wait; the oldest of them always goes into the next row.
    fill: end each row in filler, so that all have ``budget`` positions.
    too_long: a document over the budget is an ``error``, or its text is ``cut`` at the end.
    waiting, arrived: documents not yet in a row, by their place in the stream, and how many came so
        far: a packer made with them goes on exactly where another stopped.
    used, offered: positions of documents and of rows so far; their ratio is the utilisation.
    """

    budget: int
    look_ahead: int = 64
    fill: bool = False
    too_long: Literal["error", "cut"] = "error"
    waiting: list[tuple[int, Sequence]] = field(default_factory=list)
    arrived: int = 0
    used: int = field(default=0, init=False)
    offered: int = field(default=0, init=False)

    @property
    def utilisation(self) -> float:
        return self.used / self.offered if self.offered else 1.0

    def rows(self, sequences: Iterable[Sequence]) -> Iterator[Row]:
        """Rows in order. A row is full, or nothing that waits fits its rest; the last holds what is left."""
        waits = sum(len(s) for _, s in self.waiting)
        for sequence in sequences:
            self.waiting.append((self.arrived, self._fitting(sequence)))
            self.arrived += 1
            waits += len(self.waiting[-1][1])
            if len(self.waiting) >= self.look_ahead and waits >= self.budget:
                row = self._row(self.waiting)
                waits -= row.used
                yield row
        while self.waiting:
            yield self._row(self.waiting)

    def _fitting(self, sequence: Sequence) -> Sequence:
        if len(sequence) <= self.budget:
            return sequence
        if self.too_long == "cut":
            return sequence.cut(self.budget)
        longest = max(sequence.spans, key=lambda p: p.span.length, default=None)
        what = (
            f" (item {longest.item}, {longest.modality}, alone has {longest.span.length})" if longest else ""
        )
        raise TransfuseError(
            f"{sequence.source}: {len(sequence)} positions{what} do not fit a row of {self.budget}: "
            f"raise train.budget, or shorten the document"
        )

    def _row(self, waiting: list[tuple[int, Sequence]]) -> Row:
        chosen = choose([len(s) for _, s in waiting], self.budget)
        picked = [waiting[i] for i in chosen]
        for i in reversed(chosen):
            del waiting[i]
        row = join([s for _, s in picked], [a for a, _ in picked], self.budget if self.fill else None)
        self.used += row.used
        self.offered += self.budget
        return row


def choose(lengths: list[int], budget: int) -> list[int]:
    """Which of the waiting documents make the fullest row: indices in order, the first always among them.

    Documents are taken as they come while two of the longest would still fit; the rest is the subset
    of all waiting ones with the largest sum that fits (subset sums as bits of one integer), the
    earliest such subset.
    """
    taken, room = [0], budget - lengths[0]
    margin = 2 * max(lengths)
    nxt = 1
    while nxt < len(lengths) and lengths[nxt] <= room and room - lengths[nxt] >= margin:
        taken.append(nxt)
        room -= lengths[nxt]
        nxt += 1
    limit = (1 << (room + 1)) - 1
    sums = [1]  # sums[i]: bit s is set if some of the first i rests add up to s
    for length in lengths[nxt:]:
        sums.append((sums[-1] | sums[-1] << length) & limit)
        if sums[-1] >> room & 1:
            break
    left = sums[-1].bit_length() - 1
    for i in range(len(sums) - 1, 0, -1):
        if not sums[i - 1] >> left & 1:
            taken.append(nxt + i - 1)
            left -= lengths[nxt + i - 1]
    return sorted(taken)
