"""What a data set offers: documents by number, in named splits; and the part of it that a recipe reads."""

import hashlib
from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from transfuse.documents import Document
from transfuse.errors import TransfuseError

SPLITS = ("train", "tune", "test")
ENDLESS = 1 << 40
"""The size of a split whose documents never come to an end, as those of a generator."""
EXCERPT = 5000


class DataSet(ABC):
    """Documents by number, in splits: training reads ``train``, evaluation another (``eval.split``).

    A data set holds raw data and no randomness of its own: what varies from visit to visit (which
    of caption and image comes first) is drawn from the generator it is handed.

    splits: their names, ``("train", "heldout")`` unless it says others. ``tune`` is to choose settings by, ``test`` to
        judge by; where there is ``heldout`` instead, a `Restriction` deals its documents to the two in turn.
    reversed_share: the share of visits that read a document's items in reverse order.
    tasks: what a model of it is to be asked, such as ``text->image``; none named: what its documents suggest.
    """

    name: str
    splits: tuple[str, ...] = ("train", "heldout")
    reversed_share: float = 0.0
    tasks: tuple[str, ...] = ()

    @abstractmethod
    def size(self, split: str) -> int:
        """How many documents one of its ``splits`` holds; ``ENDLESS`` where they have no end."""

    def excerpt(self, split: str) -> int:
        """How many documents, from the first on, stand for the split where all of it would be gone through: to fit
        codecs, to survey it, to hash it. All of it; of an endless split some thousands."""
        size = self.size(split)
        return EXCERPT if size == ENDLESS else size

    def tasks_in(self, split: str) -> tuple[str, ...]:
        """What is asked of a split's documents, where that is not the same for all."""
        return self.tasks

    def period(self, split: str) -> int:
        """Of an endless split: after how many documents the roles of its documents come again in the same order."""
        return 1

    @abstractmethod
    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        """Document ``index`` of the split, 0 <= index < size, with ``id`` unique over all splits.

        ``rng`` draws this visit's variation; None gives the plain form (caption first).
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON that tells two data sets apart: name, sizes, a hash of the content, the licence."""

    def account(self) -> str:
        """What was found where the data lie and what of it is not used, in a sentence; empty: nothing to say."""
        return ""

    def document_roles(self, split: str, index: int) -> list[str]:
        """The roles of a document's items, in order; to be overridden where reading a document costs."""
        return [item.modality for item in self.document(split, index).items]

    def outline(self, split: str, index: int, roles: Collection[str]) -> Document:
        """The document in plain form, of whose arrays of these roles only shape and type need be true; to be overridden
        where reading them costs."""
        return self.document(split, index)

    def raw(self, split: str, modality: str) -> Iterator[Any]:
        """All raw data of one modality in a split's excerpt, in order: what codecs and tokenizers train on."""
        for index in range(self.excerpt(split)):
            for item in self.document(split, index).items:
                if item.modality == modality:
                    yield item.data


@dataclass(frozen=True, eq=False)
class _Split:
    """What a restriction found in a split.

    kept: the documents of which something is left; of an endless split, those of a period.
    items: how many items there are, by role, whether left or not. documents: that were gone through.
    """

    kept: np.ndarray
    items: Counter[str]
    documents: int
    endless: bool

    @property
    def size(self) -> int:
        return ENDLESS if self.endless and len(self.kept) else len(self.kept)

    def place(self, index: int) -> int:
        """Where in the whole data set a document of the restriction stands."""
        period, at = divmod(index, len(self.kept))
        return period * self.documents + int(self.kept[at])


class Restriction(DataSet):
    """A data set as a recipe reads it: items of other roles are left out, and documents of which nothing is left.

    Each split is gone through once, when it is first asked for, to find which documents those are. Raises
    TransfuseError naming both sets of roles where nothing is left to train on.
    """

    def __init__(self, data: DataSet, roles: Iterable[str]) -> None:
        self.data, self.roles = data, frozenset(roles)
        self.name, self.reversed_share, self.tasks = data.name, data.reversed_share, data.tasks
        self.splits = data.splits if "test" in data.splits else SPLITS
        self._splits: dict[str, _Split] = {}

    def size(self, split: str) -> int:
        return self._split(split).size

    def excerpt(self, split: str) -> int:
        found, all_of_it = self._split(split), self.data.excerpt(self._whole(split))
        inside = int(np.searchsorted(found.kept, all_of_it))
        return len(found.kept) * (all_of_it // found.documents) if found.endless else inside

    def period(self, split: str) -> int:
        return len(self._split(split).kept)

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        whole, place = self._whole(split), self.place(split, index)
        document = self._part(self.data.document(whole, place, rng))
        # Where nothing is left of the form that this visit drew, the plain one is read.
        return document if document.items else self._part(self.data.document(whole, place))

    def outline(self, split: str, index: int, roles: Collection[str]) -> Document:
        return self._part(self.data.outline(self._whole(split), self.place(split, index), roles))

    def place(self, split: str, index: int) -> int:
        found = self._split(split)
        return found.place(checked_index(self.name, split, index, found.size))

    def _whole(self, split: str) -> str:
        """The split of the whole data set that one of this is, or is dealt from."""
        return split if checked_split(self.name, split, self.splits) in self.data.splits else "heldout"

    def tasks_in(self, split: str) -> tuple[str, ...]:
        return self.data.tasks_in(split)

    def identity(self) -> dict[str, Any]:
        return self.data.identity()

    def raw(self, split: str, modality: str) -> Iterator[Any]:
        return (self.data if split in self.data.splits else super()).raw(split, modality)

    def account(self) -> str:
        return self.data.account()

    def lacks(self, split: str = "train") -> list[str]:
        """The roles of the recipe of which no document of the split has an item."""
        return sorted(self.roles - self._split(split).items.keys())

    def left_out(self, split: str = "train") -> str:
        """What is left out of a split, in a sentence; empty where nothing is."""
        found = self._split(split)
        strange = sorted(found.items.keys() - self.roles)
        if not strange:
            return ""
        counts = ", ".join(f"{found.items[role]:,} items of role {role}" for role in strange)
        skipped = found.documents - len(found.kept)
        rest = f", and {skipped:,} documents of nothing else" if skipped else ""
        return f"{counts} left out{rest}; the recipe has {' and '.join(sorted(self.roles))}"

    def _part(self, document: Document) -> Document:
        items = tuple(item for item in document.items if item.modality in self.roles)
        return document if len(items) == len(document.items) else replace(document, items=items)

    def _split(self, split: str) -> _Split:
        if split in self._splits:
            return self._splits[split]
        whole = self._whole(split)
        endless = self.data.size(whole) == ENDLESS
        kept, items = array("q"), Counter[str]()
        size = (self.data.period if endless else self.data.size)(whole)
        for index in range(size):
            roles = Counter(self.data.document_roles(whole, index))
            items += roles
            if not roles or roles.keys() & self.roles:
                kept.append(index)
        if split == "train" and items and not items.keys() & self.roles:
            raise TransfuseError(
                f"data set {self.name!r}: no training document has an item of the recipe's roles "
                f"({', '.join(sorted(self.roles))}); theirs are {', '.join(sorted(items))}"
            )
        kept = kept if whole == split else kept[split == "tune" :: 2]
        return self._splits.setdefault(split, _Split(np.array(kept, np.int64), items, size, endless))


def restrict(data: DataSet, roles: Iterable[str]) -> Restriction:
    """The part of a data set that has these roles."""
    roles = frozenset(roles)
    return data if isinstance(data, Restriction) and data.roles == roles else Restriction(data, roles)


def in_either_order(document: Document, reversed_share: float, rng: np.random.Generator | None) -> Document:
    """One visit's order of a document: as it stands, or its items in reverse order.

    Reversed with probability ``reversed_share``; never when ``rng`` is None. In the reversed form no
    item is droppable: what was the prompt now follows what it prompted.
    """
    if rng is None or rng.random() >= reversed_share:
        return document
    return replace(document, items=tuple(replace(item, droppable=False) for item in reversed(document.items)))


def checked_index(name: str, split: str, index: int, size: int) -> int:
    """``index``, or an error naming the data set and split it lies outside of."""
    if not 0 <= index < size:
        raise TransfuseError(f"{name} {split}: no document {index}, the split holds {size}")
    return index


def checked_split(name: str, split: str, splits: Sequence[str] = DataSet.splits) -> str:
    """``split``, or an error naming the data set and the splits there are."""
    if split not in splits:
        raise TransfuseError(f"{name}: unknown split {split!r}, the splits are {', '.join(splits)}")
    return split


def content_hash(data: DataSet) -> str:
    """SHA-256 over the documents of each split's excerpt in plain form: ids, flags, text and array bytes.

    Equal for a data set and its copy in a store. Raises where an item's data is neither a string nor
    an array.
    """
    digest = hashlib.sha256(f"reversed_share={data.reversed_share!r}".encode())
    for split in data.splits:
        digest.update(f"\0split {split} {data.size(split)}".encode())
        for index in range(data.excerpt(split)):
            document = data.document(split, index)
            digest.update(f"\0document {document.id}".encode())
            for item in document.items:
                body, kind = item_bytes(item.data, document.source)
                flags = f"{item.loss:d}{item.noised:d}{item.droppable:d}"
                digest.update(f"\0{item.modality} {flags} {kind} {len(body)}\0".encode() + body)
    return digest.hexdigest()


def item_bytes(raw: Any, source: str) -> tuple[bytes, str]:
    """An item's data as bytes and, in words, what they are: ``text`` or ``float32 (1, 8, 8)``."""
    if isinstance(raw, str):
        return raw.encode(), "text"
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "biuf":
        little = raw.astype(raw.dtype.newbyteorder("<"), copy=False)
        return little.tobytes(), f"{raw.dtype.name} {raw.shape}"
    raise TransfuseError(f"{source}: an item holds {type(raw).__name__}, not a string or a numeric array")
