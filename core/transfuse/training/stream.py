"""The training stream: which document comes when, as a pure function of its place in the stream."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

import numpy as np

from transfuse.datasets import DataSet, item_bytes
from transfuse.documents import Document, View
from transfuse.errors import RecordError, TransfuseError
from transfuse.masks import NONE
from transfuse.modalities.guidance import all_views
from transfuse.modalities.modality import TokenModality
from transfuse.randomness import Key
from transfuse.sequences.layout import Layout
from transfuse.sequences.sequence import DocumentSequence
from transfuse.training.encoding import Content, encode_together, worth_dealing
from transfuse.training.order import Order, order_of
from transfuse.training.ranks import ALONE, Ranks

KEPT, KEPT_BYTES = 50_000, 2**30  # payloads, and of what size in all
BAD = 100  # records that are not what was written, at which a run stops
IDS = 200_000  # of documents, which are compared


@dataclass
class Stream:
    """Epoch after epoch over a data set's training split, each in its own order.

    Every recipe that is given the same data and key reads the same documents in the same order. A share
    ``drop`` of each document's visits shows it as one of the recipe's guidance views, each as often,
    or without all droppable items where the recipe has no guidance.
    A document of more than ``longest`` positions is shown with less text, see `shortened`.
    Payloads are kept by the content they were encoded from, the latest ``KEPT`` or ``KEPT_BYTES`` of them.
    bad: the documents whose records are not what was written, by index, with what is wrong.
    ranks: that read the same stream in step; where a codec has weights, each encodes its share of what comes next.
    """

    data: DataSet
    layout: Layout
    key: Key
    drop: float
    longest: int | None = None
    ranks: Ranks = ALONE
    bad: dict[int, str] = field(default_factory=dict)
    _payloads: dict[Content, np.ndarray] = field(default_factory=dict)
    _kept_bytes: int = 0
    _indices: dict[int, int] = field(default_factory=dict)
    _ahead: dict[int, tuple[Document, int, bool]] = field(default_factory=dict)

    @cached_property
    def views(self) -> tuple[View, ...]:
        """What a dropped visit may show."""
        return all_views(self.layout.modalities) or (View(),)

    def document(self, place: int) -> tuple[Document, int, bool]:
        """The document at a place of the stream, how often it was visited before, and whether this
        visit leaves some of its droppable items out, and not all items."""
        document, index, visit = self._read(place)
        self._check_id(document, index)
        if self.key.uniform("drop", visit, index) >= self.drop:
            return document, visit, False
        kept = document.seen(self.views[self.key.number("view", visit, index) % len(self.views)])
        dropped = 0 < len(kept.items) < len(document.items)
        return kept if dropped else document, visit, dropped

    @cached_property
    def _order(self) -> Order | None:
        return order_of(self.data, self.key)

    def _read(self, place: int) -> tuple[Document, int, int]:
        """The document at a place, its index, and which visit of it this is.

        Where its record is not what was written, the next one that is stands there instead: no place is left out, so
        a run goes on as it would have. Each is named once. Raises TransfuseError where more than ``BAD`` are so.
        """
        visit, first = (0, place) if self._order is None else self._order.index(place)
        for index in range(first, first + BAD + 1):
            index %= self.data.size("train")
            if index in self.bad:
                continue
            try:
                return self.data.document("train", index, self.key.rng("order", visit, index)), index, visit
            except RecordError as error:
                self.bad[index] = str(error)
                warnings.warn(
                    f"{self.data.name} train {index}: not read, and the next stands in its place ({len(self.bad)} so "
                    f"far, the run stops at {BAD}): {error}",
                    stacklevel=2,
                )
            if len(self.bad) >= BAD:
                break
        raise TransfuseError(
            f"{self.data.name} train: {len(self.bad)} records are not what was written; the first: "
            f"{next(iter(self.bad.values()))}; see them all by `transfuse data verify`, and restore those files"
        )

    def _check_id(self, document: Document, index: int) -> None:
        """Raises TransfuseError for an id that is no number, and for two documents of one among the first ``IDS``."""
        if not isinstance(document.id, int | np.integer):
            raise TransfuseError(f"{document.source}: its id {document.id!r:.40} must be a whole number")
        if len(self._indices) < IDS:
            self._indices.setdefault(document.id, index)
        if (first := self._indices.get(document.id, index)) != index:
            other = self.data.document("train", first).source
            raise TransfuseError(
                f"{self.data.name} train: documents {first} ({other}) and {index} ({document.source}) have one id, "
                f"{document.id}, by which their noise is drawn: give each document its own"
            )

    def sequence(self, place: int) -> DocumentSequence:
        """The same, laid out. Where the prompt is dropped, the text model learns nothing from its absence:
        text and markers carry no loss there, only what guidance is for."""
        document, visit, dropped = self._ahead.pop(place, None) or self.document(place)
        payloads = [self._payload(document, index) for index in range(len(document.items))]
        sequence = self.layout.sequence(document, payloads, visit=visit)
        if self.longest is not None and len(sequence) > self.longest:
            payloads = shortened(self.layout, document, payloads, len(sequence) - self.longest)
            sequence = self.layout.sequence(document, payloads, visit=visit)
        number = self.layout.marker_number
        return sequence.without_loss(number) if dropped and number != NONE else sequence

    def encode_ahead(self, places: Sequence[int]) -> None:
        """The documents at these places, read by every rank, each encoded by one. All ranks call it in step."""
        if self.ranks.size == 1 or not self._dealt:
            return
        wanted: dict[Content, tuple[Document, int]] = {}
        for place in places:
            document, *_ = self._ahead[place] = self.document(place)
            for index, item in enumerate(document.items):
                content = self._content(document, index) if item.modality in self._dealt else None
                if content is not None and content not in self._payloads:
                    wanted.setdefault(content, (document, index))
        for content, payload in encode_together(self.layout, wanted, self.ranks).items():
            self._keep(content, payload)

    @cached_property
    def _dealt(self) -> frozenset[str]:
        return worth_dealing(self.layout.modalities)

    def _payload(self, document: Document, index: int) -> np.ndarray:
        """An item's payload, encoded once for all items of the same content."""
        content = self._content(document, index)
        if content is None:
            return self.layout.payload(document, index)
        if content not in self._payloads:
            self._keep(content, self.layout.payload(document, index))
        return self._payloads[content]

    def _content(self, document: Document, index: int) -> Content | None:
        """What an item's payload is kept by; None of raw data of another kind, and of what no encoder takes."""
        item = document.items[index]
        try:
            body, kind = item_bytes(item.data, document.source)
        except (TransfuseError, UnicodeError):
            return None
        return item.modality, blake2b(body + kind.encode(), digest_size=16).digest()

    def _keep(self, content: Content, payload: np.ndarray) -> None:
        self._payloads[content] = payload
        self._kept_bytes += payload.nbytes
        while len(self._payloads) > 1 and (len(self._payloads) > KEPT or self._kept_bytes > KEPT_BYTES):
            self._kept_bytes -= self._payloads.pop(next(iter(self._payloads))).nbytes

    def sequences(self, start: int = 0) -> Iterator[DocumentSequence]:
        """Without end, from a place on."""
        place = start
        while True:
            if place not in self._ahead:
                self.encode_ahead(range(place, place + self.ranks.size))
            yield self.sequence(place)
            place += 1


def shortened(
    layout: Layout, document: Document, payloads: Sequence[np.ndarray], excess: int
) -> list[np.ndarray]:
    """Payloads of which texts are cut at their ends by ``excess`` ids in all, wherever they stand; the longest first,
    so that it is the same in whatever order a visit reads the items.

    Raises TransfuseError where there is not so much text.
    """
    texts = [
        i
        for i, item in enumerate(document.items)
        if isinstance(layout.modalities[item.modality], TokenModality)
        and not layout.modalities[item.modality].labels()
    ]
    kept, left = list(payloads), excess
    for i in sorted(texts, key=lambda i: (-len(payloads[i]), payloads[i].tolist())):
        cut = min(left, len(payloads[i]) - 1)
        kept[i], left = payloads[i][: len(payloads[i]) - cut], left - cut
    if left:
        raise TransfuseError(
            f"{document.source}: only text can be cut, and without any of it {left} positions are still too many: "
            f"raise train.budget by that, or say train.too_long=skip"
        )
    return kept
