"""Several data sets as one, each with a share of training's visits: stores, folders, whatever ``--data`` takes.

The data sets lie end to end; which of them a place of the training stream visits, and where in it, is worked out by
`transfuse.training.order` from the seed and the place alone.
"""

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from transfuse.datasets import ENDLESS, SPLITS, DataSet, checked_index, checked_split
from transfuse.documents import Document
from transfuse.errors import TransfuseError

MOST = 64
"""Data sets of a mixture."""


class Mixture(DataSet):
    """Data sets end to end, in each split. Where only some have ``tune`` and ``test``, what others hold out is dealt to
    the two in turn, as a `Restriction` does.

    shares: of the visits, by data set; their sum is of no matter. endless: of a data set that has no end, so many
    documents take part. A document's id is made its own by the number of its data set.
    """

    name = "mix"

    def __init__(self, shares: Mapping[str, float], sources: Mapping[str, DataSet], endless: int) -> None:
        if not 1 <= len(shares) <= MOST:
            raise TransfuseError(
                f"data mix: a mixture is of 1 to {MOST} data sets, not {len(shares)}: name some in of"
            )
        self.shares, self.sources, self._endless = dict(shares), [sources[name] for name in shares], endless
        self.name = " + ".join(source.name for source in self.sources)
        total = sum(self.shares.values())
        weights = [share / total for share in self.shares.values()]
        pairs = zip(weights, self.sources, strict=True)
        self.reversed_share = sum(weight * source.reversed_share for weight, source in pairs)
        self.tasks = tuple(dict.fromkeys(task for source in self.sources for task in source.tasks))
        own = [source for source in self.sources if "test" in source.splits]
        self.splits = SPLITS if own else ("train", "heldout")
        self._ends = {
            split: list(accumulate(self._size(source, split) for source in self.sources))
            for split in self.splits
        }

    def size(self, split: str) -> int:
        return self._ends[checked_split(self.name, split, self.splits)][-1]

    def mixed(self, split: str) -> list[tuple[int, float, int]]:
        """Of each data set its documents, its share, and how many are best read together."""
        return [
            (self._size(source, split), share, getattr(source, "block", 0))
            for share, source in zip(self.shares.values(), self.sources, strict=True)
        ]

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        number, split, place = self._find(split, index)
        return self._own(number, self.sources[number].document(split, place, rng))

    def outline(self, split: str, index: int, roles: Collection[str]) -> Document:
        number, split, place = self._find(split, index)
        return self._own(number, self.sources[number].outline(split, place, roles))

    def document_roles(self, split: str, index: int) -> list[str]:
        number, split, place = self._find(split, index)
        return self.sources[number].document_roles(split, place)

    def identity(self) -> dict[str, Any]:
        of = [
            {"share": share, "data": source.identity()}
            for share, source in zip(self.shares.values(), self.sources, strict=True)
        ]
        return {"name": self.name, **{split: self.size(split) for split in self.splits}, "mixed": of}

    def account(self) -> str:
        told = [f"{source.name}: {found}" for source in self.sources if (found := source.account())]
        parts = [
            f"{share / sum(self.shares.values()):.1%} {source.name} ({self._size(source, 'train'):,} documents)"
            for share, source in zip(self.shares.values(), self.sources, strict=True)
        ]
        return "; ".join([f"visits are {', '.join(parts)}", *told])

    def codec_folder(self) -> Path | None:
        """The codecs of the first data set that holds encoded documents; those of the others must be the same."""
        folders = (getattr(source, "codec_folder", lambda: None)() for source in self.sources)
        return next((folder for folder in folders if folder is not None), None)

    def _size(self, source: DataSet, split: str) -> int:
        dealt = split not in source.splits
        size = source.size("heldout" if dealt else split)
        size = self._endless if size == ENDLESS else size
        return (size + (split == "test")) // 2 if dealt else size

    def _own(self, number: int, document: Document) -> Document:
        return replace(document, id=int(document.id) * len(self.sources) + number)

    def _find(self, split: str, index: int) -> tuple[int, str, int]:
        """The number of the data set that has a document, and the split and the index there."""
        place = checked_index(self.name, split, index, self.size(split))
        number = bisect_right(self._ends[split], place)
        place -= self._ends[split][number - 1] if number else 0
        if split in self.sources[number].splits:
            return number, split, place
        return number, "heldout", 2 * place + (split == "tune")
