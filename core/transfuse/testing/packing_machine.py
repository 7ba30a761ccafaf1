"""A Hypothesis machine that packs, cuts, resumes and decodes in any order, and asks after each step what must hold.

>>> class TestPacking(PackingMachine.TestCase):
...     settings = hypothesis.settings(max_examples=30)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from transfuse.documents import Document
from transfuse.sequences.layout import DocumentCursor
from transfuse.sequences.packing import Packer
from transfuse.sequences.rows import Row
from transfuse.sequences.sequence import DocumentSequence
from transfuse.testing import strategies
from transfuse.testing.modalities import Blob, Letters, layout
from transfuse.testing.unpacking import unpack
from transfuse.training.stream import shortened

LONGEST = 34
"""Positions of the longest document that is drawn."""
Waiting = Sequence[tuple[int, DocumentSequence]]


class AnyPacker(Protocol):
    """What a packer of your own must offer to be tried here, as `transfuse.Packer` does.

    waiting: documents that came and are in no row yet, by their place in the stream. arrived: how many came.
    """

    waiting: list[tuple[int, DocumentSequence]]
    arrived: int

    def rows(self, sequences: Iterable[DocumentSequence]) -> Iterator[Row]:
        """Rows in order, each read from the stream as late as can be."""
        ...


class PackingMachine(RuleBasedStateMachine):
    """Documents arrive, rows are taken, texts are cut, the packer is put down and taken up, documents are decoded.

    Override `packer` to try one of your own.
    """

    def packer(self, budget: int, waiting: Waiting = (), arrived: int = 0) -> AnyPacker:
        """A packer of rows of at most ``budget`` positions, that goes on with what waited after so many arrived."""
        return Packer(budget, look_ahead=5, waiting=list(waiting), arrived=arrived)

    def __init__(self) -> None:
        super().__init__()
        self.layout = layout(Letters(), Blob(sizes=tuple(range(1, 7))))
        self.documents: list[Document] = []
        self.stream: list[DocumentSequence] = []
        self.made: list[Row] = []

    @initialize(budget=st.integers(LONGEST, 3 * LONGEST))
    def begin(self, budget: int) -> None:
        self.budget, self.own = budget, self.packer(budget)
        self.coming = self.own.rows(self._incoming())

    def _incoming(self) -> Iterator[DocumentSequence]:
        while self.own.arrived < len(self.stream):
            yield self.stream[self.own.arrived]

    # -- what may happen

    @rule(several=st.lists(strategies.items_of(), min_size=1, max_size=4))
    def arrive(self, several: Any) -> None:
        """A few documents come to the end of the stream."""
        for items in several:
            number = len(self.documents)
            self.documents.append(Document(items, number, f"document {number}"))
            self.stream.append(self.layout.sequence(self.documents[-1]))

    @rule(items=strategies.items_of(), excess=st.integers(1, 4))
    def arrive_cut(self, items: Any, excess: int) -> None:
        """A document comes whose text is cut at its end, as much as there is of it."""
        number = len(self.documents)
        whole = Document(items, number, f"document {number}")
        payloads = self.layout.payloads(whole)
        room = sum(len(p) - 1 for p, item in zip(payloads, items, strict=True) if item.modality == "letters")
        cut = shortened(self.layout, whole, payloads, min(excess, room))
        sequence = self.layout.sequence(whole, cut)
        assert len(sequence) == len(self.layout.sequence(whole)) - min(excess, room), (
            "so much is cut, and no more"
        )
        self.documents.append(replace(whole, items=self._with(whole, cut)))
        self.stream.append(sequence)

    @rule()
    def pack(self) -> None:
        """One more row; where the stream is at its end, what waits is packed."""
        row = next(self.coming, None)
        if row is None:
            self.coming = self.own.rows(self._incoming())
        else:
            self.made.append(row)

    @rule()
    def resume(self) -> None:
        """The packer is put down, and another goes on with what waited."""
        self.own = self.packer(self.budget, list(self.own.waiting), self.own.arrived)
        self.coming = self.own.rows(self._incoming())

    @precondition(lambda self: self.documents)
    @rule(data=st.data())
    def decode(self, data: st.DataObject) -> None:
        """A document, begun as a prompt and gone on with item by item, is laid out as it was whole, if it is clean."""
        document = data.draw(st.sampled_from(self.documents))
        clean = replace(document, items=tuple(replace(item, noised=False) for item in document.items))
        begun = data.draw(st.integers(0, len(clean.items)))
        sequence, cursor = self.layout.prompt(replace(clean, items=clean.items[:begun]))
        pieces = [sequence, *self._continued(clean, begun, cursor)]
        whole = self.layout.sequence(clean)
        for name in (*whole.columns, "tokens"):
            parts = [piece.tokens if name == "tokens" else piece.columns[name] for piece in pieces]
            wanted = (whole.tokens if name == "tokens" else whole.columns[name])[:-1]
            assert np.array_equal(np.concatenate(parts), wanted), (
                f"{name} is another in decoding than in training"
            )

    def _continued(
        self, document: Document, begun: int, cursor: DocumentCursor
    ) -> Iterator[DocumentSequence]:
        for i in range(begun, len(document.items)):
            payload = self.layout.payload(document, i)
            sequence, cursor = self.layout.continuation(document, document.items[i], payload, cursor)
            yield sequence

    def _with(self, document: Document, payloads: list[np.ndarray]) -> tuple:
        """Its items, their data as the payloads are decoded."""
        modalities = self.layout.modalities
        pairs = zip(document.items, payloads, strict=True)
        return tuple(replace(item, data=modalities[item.modality].decode(payload)) for item, payload in pairs)

    # -- what must hold

    @invariant()
    def no_row_exceeds_the_budget(self) -> None:
        assert all(row.used <= self.budget for row in self.made)

    @invariant()
    def no_document_is_lost_or_doubled(self) -> None:
        if not hasattr(self, "own"):
            return
        placed = [place for row in self.made for place in row.arrivals]
        waits = [place for place, _ in self.own.waiting]
        assert sorted([*placed, *waits]) == list(range(self.own.arrived)), "each is in one row, or waits"

    @invariant()
    def documents_come_back_as_they_were(self) -> None:
        places = sorted(place for row in self.made for place in row.arrivals)
        for place, found in zip(places, unpack(self.made), strict=True):
            wanted = self.stream[place]
            assert found.tokens.tolist() == wanted.tokens.tolist()
            assert found.columns.keys() == wanted.columns.keys()
            for name, column in wanted.columns.items():
                assert np.array_equal(found.columns[name], column), f"{name} of document {place} is another"
