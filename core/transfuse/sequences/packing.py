"""Documents are laid end to end in rows: no padding, no span ever cut, order kept inside a document."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.masks import NONE
from transfuse.sequences.rows import Row, join
from transfuse.sequences.sequence import DocumentSequence

TRIES = 8
"""A full row is looked for each time so many more documents wait."""


@dataclass
class Packer:
    """Packs a stream of documents into rows of at most ``budget`` positions.

    look_ahead: how many documents may wait; the oldest of them always goes into the next row. Fewer do
        where a row can be filled to its last position from twice its size.
    fill: end each row in filler, so that all have ``budget`` positions.
    skip: a document over the budget is left out, not an error.
    waiting, arrived: documents not yet in a row, by their place in the stream, and how many came so
        far: a packer made with them goes on exactly where another stopped.
    """

    budget: int
    look_ahead: int = 64
    fill: bool = False
    skip: bool = False
    waiting: list[tuple[int, DocumentSequence]] = field(default_factory=list)
    arrived: int = 0

    def rows(self, sequences: Iterable[DocumentSequence]) -> Iterator[Row]:
        """Rows in order. A row is full, or nothing that waits fits its rest; the last holds what is left."""
        waits = sum(len(s) for _, s in self.waiting)
        for sequence in sequences:
            self.arrived += 1
            if self.skip and len(sequence) > self.budget:
                continue
            self.waiting.append((self.arrived - 1, self._fitting(sequence)))
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

    def _fitting(self, sequence: DocumentSequence) -> DocumentSequence:
        if len(sequence) <= self.budget:
            return sequence
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
        return join([s for _, s in picked], [a for a, _ in picked], self.budget if self.fill else None)


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
