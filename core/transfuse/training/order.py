"""In which order training visits documents: a pure function of seed and place, so a run goes on from a number alone.

A data set that has ``block`` is read in runs of so many consecutive documents: the blocks come in an order shuffled by
seed and visit, and documents within a window of some blocks. One that has ``mixed`` is several end to end, each with
a share of the visits: of any 1,024 places each has its share to within one document, in an order shuffled by seed, and
each is visited at its own pace. Nothing here knows of ranks, workers or micro-batches: whoever deals places to them
deals the same places in the same order, however many they are.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol, runtime_checkable

import numpy as np

from transfuse.datasets import ENDLESS, DataSet, Restriction
from transfuse.errors import TransfuseError
from transfuse.randomness import Key

WINDOW = 16
"""Blocks within which documents are shuffled."""
ROUND = 1024
"""Places of a mixture in which every data set has its share."""


@runtime_checkable
class InBlocks(Protocol):
    """A data set whose documents are best read so many together."""

    block: int


@runtime_checkable
class Mixed(Protocol):
    """Several data sets end to end."""

    def mixed(self, split: str) -> Sequence[tuple[int, float, int]]:
        """Of each, how many documents it has, its share of the visits, and its ``block`` (0: none)."""
        ...


@dataclass
class Shuffle:
    """The order of ``size`` documents, visit after visit, each in an order of its own.

    block: 0, and any document may follow any other, as where there is but one window; else documents come from a
    window of 16 blocks. number: tells the orders of one key apart.
    """

    size: int
    key: Key
    block: int = 0
    number: int = 0
    _blocks: tuple[int, np.ndarray] | None = None
    _window: tuple[tuple[int, int], np.ndarray] | None = None

    def __post_init__(self) -> None:
        if self.size <= self.block * WINDOW:
            self.block = 0

    def index(self, place: int) -> tuple[int, int]:
        """Which visit a place of the stream is, and of which document."""
        visit, at = divmod(place, self.size)
        window = 0
        if self.block:
            window, at = divmod(at, self.block * WINDOW)
        if self._window is None or self._window[0] != (visit, window):
            self._window = (visit, window), self._shuffled(visit, window)
        return visit, int(self._window[1][at])

    def _shuffled(self, visit: int, window: int) -> np.ndarray:
        """The documents of a window, in order; without blocks all are one window."""
        ids = (visit, self.number) if self.number else (visit,)
        if not self.block:
            return self.key.rng("shuffle", *ids).permutation(self.size)
        if self._blocks is None or self._blocks[0] != visit:
            self._blocks = visit, self._block_order(visit)
        some = self._blocks[1][window * WINDOW : (window + 1) * WINDOW]
        documents = [np.arange(b * self.block, min((b + 1) * self.block, self.size)) for b in some.tolist()]
        return self.key.rng("window", visit, self.number, window).permutation(np.concatenate(documents))

    def _block_order(self, visit: int) -> np.ndarray:
        """Shuffled, but the last one, which may be short, stays last: all windows before it are full."""
        blocks = ceil(self.size / self.block)
        whole = self.key.rng("blocks", visit, self.number).permutation(self.size // self.block)
        return np.concatenate([whole, np.arange(len(whole), blocks)])


@dataclass
class Mixture:
    """Several orders, each with a share of the places."""

    shuffles: Sequence[Shuffle]
    shares: Sequence[float]
    key: Key
    _round: tuple[int, np.ndarray, np.ndarray] | None = None
    _bases: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        total = sum(self.shares)
        self._shares = np.array([share / total for share in self.shares])
        sizes = [shuffle.size for shuffle in self.shuffles]
        self._bases = [sum(sizes[:number]) for number in range(len(sizes))]

    def index(self, place: int) -> tuple[int, int]:
        """Which visit of its document a place is, and which document that is, of all end to end."""
        number, at = divmod(place, ROUND)
        if self._round is None or self._round[0] != number:
            before, after = (self._counts(number + i) for i in (0, 1))
            sources = np.repeat(np.arange(len(self.shuffles)), after - before)
            sources = self.key.rng("mixture", number).permutation(sources)
            seen = np.zeros(ROUND, np.int64)
            for source in range(len(self.shuffles)):
                mine = sources == source
                seen[mine] = before[source] + np.arange(mine.sum())
            self._round = number, sources, seen
        source = int(self._round[1][at])
        visit, index = self.shuffles[source].index(int(self._round[2][at]))
        return visit, self._bases[source] + index

    def _counts(self, rounds: int) -> np.ndarray:
        """How many places each has in so many rounds: its share, rounded so that they add up."""
        edges = np.floor(np.cumsum(self._shares) * (rounds * ROUND) + 0.5).astype(np.int64)
        edges[-1] = rounds * ROUND
        return np.diff(edges, prepend=0)


Order = Shuffle | Mixture


def order_of(data: DataSet, key: Key, split: str = "train") -> Order | None:
    """The order in which a data set is visited; None: it has no end, and is read from its first document on.

    Raises TransfuseError where nothing is left of a data set that is to have a share.
    """
    size, whole = data.size(split), data.data if isinstance(data, Restriction) else data
    if isinstance(whole, Mixed):
        runs = whole.mixed(split)
        ends = np.cumsum([documents for documents, _, _ in runs]).tolist()
        if isinstance(data, Restriction):
            place = data.place
            ends = [bisect_left(range(size), end, key=lambda i: place(split, i)) for end in ends]
        sizes = np.diff(ends, prepend=0).tolist()
        for number, (left, (documents, share, _)) in enumerate(zip(sizes, runs, strict=True)):
            if not left:
                raise TransfuseError(
                    f"data set {data.name!r}: number {number + 1} has a share of {share}, and of its {documents:,} "
                    f"documents none has an item for the recipe: leave it out"
                )
        shuffles = [
            Shuffle(n, key, block, i + 1)
            for i, (n, (_, _, block)) in enumerate(zip(sizes, runs, strict=True))
        ]
        return Mixture(shuffles, [share for _, share, _ in runs], key)
    if size == ENDLESS:
        return None
    return Shuffle(size, key, whole.block if isinstance(whole, InBlocks) else 0)
