"""A document laid out as positions: the one way, for training, prompts and every guidance view."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int

from transfuse.config.recipe import COLUMNS, RESERVED
from transfuse.documents import Document, Encoded, Item
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.masks import NONE, Mask
from transfuse.modalities import seam
from transfuse.modalities.modality import Column, Modality, Span, TokenModality
from transfuse.sequences.sequence import ROW_COLUMNS, DocumentSequence, PlacedSpan
from transfuse.sequences.vocabulary import BEGIN, END, Vocabulary, begin_marker, end_marker


@dataclass(frozen=True)
class Layout:
    """What turns documents into sequences: the modalities by name, in order, and the vocabulary."""

    modalities: Mapping[str, Modality]
    vocabulary: Vocabulary

    @property
    def names(self) -> list[str]:
        return list(self.modalities)

    @property
    def marker_modality(self) -> str | None:
        """The modality that predicts begin markers and the end of a document."""
        return next((name for name, m in self.modalities.items() if m.predicts_markers), None)

    @cached_property
    def marker_number(self) -> int:
        """Its number; NONE where there is none."""
        return NONE if self.marker_modality is None else self.names.index(self.marker_modality)

    @cached_property
    def columns(self) -> dict[str, Column]:
        """All columns that a mask may name: those written here and by the packer, a flag a role, the modalities'.

        Raises TransfuseError where two modalities, or one and the packer, claim the same name.
        """
        found = {name: Column.FLAG if name in ("noised", "marker") else Column.ID for name in COLUMNS}
        found |= dict.fromkeys(self.modalities, Column.FLAG)
        taken = {*RESERVED, *self.modalities}
        for name, modality in self.modalities.items():
            for column, kind in seam.call(modality, "columns").items():
                if column in taken or found.get(column, kind) != kind:
                    raise TransfuseError(f"modality {name!r}: column {column!r} is taken: name it otherwise")
                found[column] = kind
        return found

    @cached_property
    def rows(self) -> tuple[dict[str, int], Int[np.ndarray, "rows 1"]]:
        """The row of a sequence's table by name, and what stands there where nothing is written."""
        written = {name: kind for name, kind in self.columns.items() if name not in ROW_COLUMNS}
        names = ("tokens", "targets", "scored", *written)
        return {name: i for i, name in enumerate(names)}, np.array(
            [[NONE]] * 3 + [[kind] for kind in written.values()]
        )

    def payloads(self, document: Document) -> list[np.ndarray]:
        """Each item through its codec, checked: the expensive part, worth keeping."""
        return [self.payload(document, i) for i in range(len(document.items))]

    def payload(self, document: Document, index: int) -> np.ndarray:
        """One item through its codec, checked."""
        item = document.items[index]
        place = f"{document.source}: item {index} ({item.modality})"
        if item.modality not in self.modalities:
            raise TransfuseError(
                f"{place}: this recipe has no modality {item.modality!r}; "
                f"{did_you_mean(item.modality, self.modalities)}"
            )
        modality = self.modalities[item.modality]
        with seam.at(place):
            stored = isinstance(item.data, Encoded)
            payload = item.data.payload(modality) if stored else seam.payload(modality, "encode", item.data)
        if payload.size == 0:
            raise TransfuseError(f"{place}: it is empty; leave the item out")
        if isinstance(modality, TokenModality):
            if payload.dtype.kind not in "iu":
                raise TransfuseError(f"{place}: ids must be whole numbers, not {payload.dtype}")
            if payload.min() < 0 or payload.max() >= modality.codes:
                wrong = payload[(payload < 0) | (payload >= modality.codes)][0]
                raise TransfuseError(f"{place}: id {wrong} is outside its vocabulary 0…{modality.codes - 1}")
        elif payload.dtype.kind == "f" and not np.isfinite(payload).all():
            raise TransfuseError(f"{place}: it holds NaN or Inf; mend or drop the document")
        return payload

    def sequence(
        self, document: Document, payloads: list[np.ndarray] | None = None, *, visit: int = 0
    ) -> DocumentSequence:
        """Lay a document out, whole. ``payloads``: what ``payloads(document)`` gave, if it was kept."""
        if not document.items:
            raise TransfuseError(f"{document.source}: the document is empty; give it at least one item")
        writer = _Writer(self, document, visit)
        writer.document(self.payloads(document) if payloads is None else payloads)
        writer.marker(END, scored=document.items[-1].loss)
        return writer.finish()

    def prompt(
        self, document: Document, payloads: list[np.ndarray] | None = None
    ) -> tuple[DocumentSequence, "DocumentCursor"]:
        """Lay a prompt out: as in training, but clean and open at the end; and where to go on writing."""
        given = replace(document, items=tuple(replace(item, noised=False) for item in document.items))
        writer = _Writer(self, given, visit=0)
        writer.document(self.payloads(document) if payloads is None else payloads)
        return writer.finish(), writer.cursor

    def continuation(
        self, document: Document, item: Item, payload: np.ndarray, cursor: "DocumentCursor"
    ) -> tuple[DocumentSequence, "DocumentCursor"]:
        """One more item of an open document, as it would stand had the document been laid out whole."""
        writer = _Writer(self, document, visit=0, cursor=cursor)
        writer.item(item, payload, is_context=False)
        return writer.finish(), writer.cursor


@dataclass(frozen=True)
class DocumentCursor:
    """Where the next position of an open document is written: rotary position, next span, next item."""

    pos: int = 0
    group: int = 0
    item: int = 0


class _Writer:
    """Positions so far, chunk by chunk: lists that become a sequence's arrays."""

    def __init__(
        self, layout: Layout, document: Document, visit: int, cursor: DocumentCursor | None = None
    ) -> None:
        self.layout, self.source, self.visit = layout, document, visit
        cursor = cursor or DocumentCursor()
        self.pos, self.group, self.number = cursor.pos, cursor.group, cursor.item
        self.scorer = layout.marker_number
        self.length = 0
        self.chunks: list[tuple[int, int, dict[str, int | np.ndarray]]] = []
        self.placed: list[PlacedSpan] = []

    @property
    def cursor(self) -> DocumentCursor:
        return DocumentCursor(self.pos, self.group, self.number)

    def document(self, payloads: list[np.ndarray]) -> None:
        items = self.source.items
        self.marker(BEGIN, scored=False)
        for i, (item, payload) in enumerate(zip(items, payloads, strict=True)):
            self.item(item, payload, is_context=any(later.loss for later in items[i + 1 :]))

    def item(self, item: Item, payload: np.ndarray, is_context: bool) -> None:
        with seam.at(f"{self.source.source}: item {self.number} ({item.modality})"):
            for span in seam.spans(self.layout.modalities[item.modality], item, payload):
                self.span(item.modality, span, is_context)
        self.number += 1

    def marker(self, label: str, scored: bool) -> None:
        """A mark of the document; ``scored``: it is predicted, as a loss of the modality that predicts markers."""
        self._write(
            1, tokens=self.layout.vocabulary.marker(label), pos=self.pos, span=NONE, item=NONE, mod=NONE,
            noised=0, marker=1, scored=self.scorer if scored else NONE,
        )  # fmt: skip
        self.pos += 1

    def span(self, name: str, span: Span, is_context: bool) -> None:
        modality, vocabulary = self.layout.modalities[name], self.layout.vocabulary
        mod, item = self.layout.names.index(name), self.number
        pos, self.pos = seam.positions(modality, span, self.pos)
        self._check(name, span)
        group = self.group if span.grouped else NONE
        self.group += int(span.grouped)
        bounds = group if span.inside else NONE
        first = 0 if span.label is None else 1
        shared = {"pos": pos, "item": item, "mod": mod, "noised": int(span.noised), **span.columns}

        def write(start: int, stop: int, **own: int | np.ndarray) -> None:
            part = {k: v[start:stop] if isinstance(v, np.ndarray) else v for k, v in shared.items()}
            self._write(stop - start, **part, **own)

        if span.label is not None:
            begin = vocabulary.markers.get(begin_marker(name, span.label))
            if begin is None:
                known = f"labels() had {seam.call(modality, 'labels')} when the model was made"
                but = f" as a label, and {known}: fit() must find all shapes, of the training split"
                raise seam.wrong(modality, "spans", span.label, but)
            write(0, 1, tokens=begin, span=bounds, marker=1, scored=self.scorer if span.loss else NONE)
        content: dict[str, int | np.ndarray] = {"span": group, "marker": 0, name: 1}
        if isinstance(modality, TokenModality):
            content["tokens"] = span.payload + vocabulary.range(name).start
            content["scored"] = mod if span.loss else NONE
        else:
            content["tokens"] = content["scored"] = NONE
            self.placed.append(
                PlacedSpan(
                    name, span, self.length, item, is_context, self.source.id, self.visit, self.source.source
                )
            )
        write(first, first + span.length, **content)
        if span.label is not None:
            end = vocabulary.marker(end_marker(name))
            write(span.positions - 1, span.positions, tokens=end, span=bounds, marker=1, scored=NONE)

    def _check(self, name: str, span: Span) -> None:
        """A span's own columns are those its modality declares, one value a position."""
        if not span.columns:
            return
        declared = seam.call(self.layout.modalities[name], "columns")
        for column, values in span.columns.items():
            if column not in declared:
                raise TransfuseError(
                    f"modality {name!r}: a span writes column {column!r}, which columns() does not declare; "
                    f"{did_you_mean(column, declared)}"
                )
            if np.shape(values) != (span.positions,):
                raise TransfuseError(
                    f"modality {name!r}: column {column!r} has shape {np.shape(values)}, "
                    f"and its span has {span.positions} positions"
                )

    def _write(self, n: int, **values: int | np.ndarray) -> None:
        self.chunks.append((self.length, self.length + n, values))
        self.length += n

    def finish(self) -> DocumentSequence:
        row, empty = self.layout.rows
        table = np.repeat(empty, self.length, axis=1)
        for start, stop, values in self.chunks:
            for name, value in values.items():
                table[row[name], start:stop] = value
        # What is scored at a position is the prediction of the next one.
        table[2, :-1] = table[2, 1:]
        table[2, -1:] = NONE
        table[1, :-1] = np.where(table[2, :-1] == NONE, NONE, table[0, 1:])
        kinds, placed = self.layout.columns, tuple(self.placed)
        return DocumentSequence(self.source.id, self.visit, self.source.source, kinds, table, placed)


def check_columns(mask: Mask, layout: Layout) -> None:
    """Raises TransfuseError where a mask names a column that no document of this layout has."""
    for name in sorted(mask.columns - layout.columns.keys()):
        raise TransfuseError(f"mask {mask}: unknown column {name!r}; {did_you_mean(name, layout.columns)}")
