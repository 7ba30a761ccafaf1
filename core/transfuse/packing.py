"""Documents are laid end to end in rows: no padding, no span ever cut, order kept inside a document."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.sequence import NONE, PlacedSpan, Sequence

TRIES = 8
"""A full row is looked for each time so many more documents wait."""


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
    names = sequences[0].columns.keys()
    for s in sequences:
        if s.columns.keys() != names:
            differing = ", ".join(sorted(s.columns.keys() ^ names))
            raise TransfuseError(
                f"{s.source}: laid out with other columns than {sequences[0].source}: {differing}"
            )

    def column(name: str) -> np.ndarray:
        values = np.concatenate([s.columns[name] for s in sequences])
        if not filler:
            return values
        flag = bool(((values == 0) | (values == 1)).all())
        return np.append(values, np.full(filler, 0 if flag else NONE))

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

    look_ahead: how many documents may wait; the oldest of them always goes into the next row. Fewer do
        where a row can be filled to its last position from twice its size.
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
            if waits >= self.budget and len(self.waiting) >= self.look_ahead:
                chosen = self._choose()
            elif waits >= 2 * self.budget and len(self.waiting) % TRIES == 0:
                chosen = self._choose(full=True)
            else:
                continue
            if chosen:
                row = self._row(chosen)
                waits -= row.used
                yield row
        while self.waiting:
            yield self._row(self._choose())

    def _choose(self, full: bool = False) -> list[int]:
        """Of those that wait, the fullest row; ``full``: none if it is not full."""
        lengths = [len(s) for _, s in self.waiting]
        chosen = choose(lengths, self.budget)
        return chosen if not full or sum(lengths[i] for i in chosen) == self.budget else []

    def _fitting(self, sequence: Sequence) -> Sequence:
        if len(sequence) <= self.budget:
            return sequence
        if self.too_long == "cut":
            return sequence.cut(self.budget)
        item = sequence.columns["item"]
        sizes = np.bincount(item[item != NONE])
        raise TransfuseError(
            f"{sequence.source}: {len(sequence)} positions (item {sizes.argmax()} alone has {sizes.max()}) do not "
            f"fit a row of {self.budget}: raise train.budget, or shorten the document"
        )

    def _row(self, chosen: list[int]) -> Row:
        picked = [self.waiting[i] for i in chosen]
        for i in reversed(chosen):
            del self.waiting[i]
        row = join([s for _, s in picked], [a for a, _ in picked], self.budget if self.fill else None)
        self.used += row.used
        self.offered += self.budget
        return row


def choose(lengths: list[int], budget: int) -> list[int]:
    """Which of the waiting documents make the fullest row: indices in order, the first always among them.

    The largest sum that fits, of the earliest documents that have it. Where many wait, those at the
    front are first taken as they come, which mostly fills a row exactly and costs less.
    """
    margin = 2 * max(lengths)
    taken, room = 1, budget - lengths[0]
    while taken < len(lengths) and room - lengths[taken] >= margin:
        room -= lengths[taken]
        taken += 1
    quick = [*range(taken), *_fullest(lengths, taken, room)]
    if taken == 1 or sum(lengths[i] for i in quick) == budget:
        return quick
    return [0, *_fullest(lengths, 1, budget - lengths[0])]


def _fullest(lengths: list[int], start: int, room: int) -> list[int]:
    """The subset of documents from ``start`` on with the largest sum within ``room``, the earliest such."""
    limit = (1 << (room + 1)) - 1
    sums = [1]  # sums[i]: bit s is set if some of the first i add up to s
    for length in itertools.islice(lengths, start, None):
        sums.append((sums[-1] | sums[-1] << length) & limit)
        if sums[-1] >> room:
            break
    left = sums[-1].bit_length() - 1
    found = []
    for i in range(len(sums) - 1, 0, -1):
        if not sums[i - 1] >> left & 1:
            found.append(start + i - 1)
            left -= lengths[start + i - 1]
    return found[::-1]
