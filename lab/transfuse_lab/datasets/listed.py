"""What data sets share that a user writes down: numbered entries, some of them held out."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from transfuse.datasets import SPLITS, DataSet, checked_index, checked_split, content_hash
from transfuse.errors import TransfuseError

from transfuse_lab.datasets.listings import HELDOUT

TEST_SHARE, TUNE_SHARE = 0.1, 0.05


class Entry(Protocol):
    """What becomes one document."""

    @property
    def split(self) -> str | None: ...


E = TypeVar("E", bound=Entry)


class ListedDataSet(DataSet, Generic[E]):
    """A data set of such entries; a subclass says how one becomes a document."""

    splits = SPLITS

    def __init__(self, name: str, entries: Sequence[E], empty: str) -> None:
        """``empty``: the fault where no entry is left to train on, which raises TransfuseError."""
        self.name = name
        # An entry keeps its number, in the listing's order, as its document's id.
        self._splits = {
            split: [(number, entry) for number, entry in enumerate(entries) if entry.split == split]
            for split in self.splits
        }
        if not self._splits["train"]:
            raise TransfuseError(empty)

    def size(self, split: str) -> int:
        return len(self._splits[checked_split(self.name, split, self.splits)])

    def entry(self, split: str, index: int) -> tuple[int, E]:
        """The number and the entry of document ``index`` of a split."""
        return self._splits[split][checked_index(self.name, split, index, self.size(split))]

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **{split: self.size(split) for split in self.splits},
            "content": self._hash,
            "licence": "as the folder's owner says",
        }

    @cached_property
    def _hash(self) -> str:
        return content_hash(self)


def choose_splits(given: Mapping[str, str | None]) -> dict[str, str]:
    """Each key with its split. given: the user's, `HELDOUT` for one of tune and test, None where none was given.

    Where none was given, one in ten is test, and one in twenty tune. Of `HELDOUT` half is tune.
    By a hash of the key, so that adding keys moves none. Where that leaves nothing to test, the
    key with the lowest hash is taken, if another is left to train on.
    """
    ordered = sorted(given, key=_chance)
    free = [key for key in ordered if given[key] is None]
    held = [key for key in ordered if given[key] == HELDOUT]
    found = {key: split or _by_chance(key) for key, split in given.items()}
    found |= {key: "tune" if _chance(f"half {key}") < 0.5 else "test" for key in held}
    if "test" not in found.values() and (held or (free and len(found) > 1)):
        found[(held or free)[0]] = "test"
    return found


def _by_chance(key: str) -> str:
    chance = _chance(key)
    return "test" if chance < TEST_SHARE else "tune" if chance < TEST_SHARE + TUNE_SHARE else "train"


def _chance(key: str) -> float:
    """A number in [0, 1) fixed by the key."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64
