"""What data sets share that a user writes down: numbered entries, some of them held out."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from transfuse.datasets import SPLITS, DataSet, checked_index, checked_split, content_hash
from transfuse.errors import TransfuseError

HELDOUT_SHARE = 0.1


class Entry(Protocol):
    """What becomes one document."""

    @property
    def split(self) -> str | None: ...


E = TypeVar("E", bound=Entry)


class ListedDataSet(DataSet, Generic[E]):
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


def choose_splits(given: Mapping[str, str | None]) -> dict[str, str]:
    """Each key with its split. given: the user's, None where none was given: then one in ten is held out.

    By a hash of the key, so that adding keys moves none. Where that holds out nothing and the user nothing
    either, the key with the lowest hash is held out, if another is left.
    """
    free = sorted((key for key, split in given.items() if split is None), key=_chance)
    chosen = {key: "heldout" if _chance(key) < HELDOUT_SHARE else "train" for key in free}
    found = {key: split or chosen[key] for key, split in given.items()}
    if "heldout" not in found.values() and free and len(found) > 1:
        found[free[0]] = "heldout"
    return found


def _chance(key: str) -> float:
    """A number in [0, 1) fixed by the key."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64
