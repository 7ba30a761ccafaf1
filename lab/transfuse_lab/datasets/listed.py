"""What data sets share that a user wrote down: entries with a split each, numbered in the order written."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from transfuse.datasets import SPLITS, DataSet, checked_index, checked_split, content_hash
from transfuse.errors import TransfuseError


class Entry(Protocol):
    """One line of what was written."""

    @property
    def split(self) -> str | None: ...


E = TypeVar("E", bound=Entry)


class Listed(DataSet, Generic[E]):
    """A data set of such entries; a subclass says how one becomes a document."""

    def __init__(self, name: str, entries: Sequence[E], empty: str) -> None:
        """``empty``: the fault where no entry is left to train on, which raises TransfuseError."""
        self.name = name
        # An entry keeps its number, in the listing's order, as its document's id.
        self._splits = {
            split: [(number, entry) for number, entry in enumerate(entries) if entry.split == split]
            for split in SPLITS
        }
        if not self._splits["train"]:
            raise TransfuseError(empty)

    def size(self, split: str) -> int:
        return len(self._splits[checked_split(self.name, split)])

    def entry(self, split: str, index: int) -> tuple[int, E]:
        """The number and the entry of document ``index`` of a split."""
        return self._splits[split][checked_index(self.name, split, index, self.size(split))]

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "train": self.size("train"),
            "heldout": self.size("heldout"),
            "content": self._hash,
            "licence": "as the folder's owner says",
        }

    @cached_property
    def _hash(self) -> str:
        return content_hash(self)
