"""A document laid out as positions: the one way, for training, prompts and every guidance view."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.masks import Mask
from transfuse.modality import Modality, Span, TokenModality
from transfuse.vocabulary import BEGIN, END, Vocabulary, begin_marker, end_marker

NONE = -1
WRITTEN = ("doc", "idx", "sample", "pos", "span", "item", "mod", "noised", "marker")
"""Columns that the layout and the packer write themselves."""


@dataclass(frozen=True, eq=False)
class PlacedSpan:
    """A span of a modality that is not made of ids, and where its positions start.

    is_context: later items of the document are predicted from it.
    document, visit: what its noise is keyed by, with ``item``.
    """

    modality: str
    span: Span
    start: int
    item: int
    is_context: bool
    document: int
    visit: int
    source: str


@dataclass(frozen=True, eq=False)
class Sequence:
    """One document as ``T`` positions.

    columns: integer arrays ``[T]`` for masks and rotary positions: ``pos``, ``span``, ``item``,
        ``mod``, ``noised``, ``marker``, a flag a modality, and what plugins add; -1 means none.
    tokens: vocabulary id at each position, -1 where a span's vectors stand.
    targets: the id to predict at each position, -1 where none is.
    scored: index of the modality whose loss the target belongs to, -1 where none.
    spans: what is to be embedded by its own modality.
    """

    document: int
    visit: int
    source: str
    columns: dict[str, np.ndarray]
    tokens: np.ndarray
    targets: np.ndarray
    scored: np.ndarray
    spans: tuple[PlacedSpan, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, start: int, stop: int, tokens: np.ndarray | None = None) -> "Sequence":
        """Positions ``start … stop - 1``, with other tokens if given; spans not wholly inside are left out."""
        return replace(
            self,
            columns={name: column[start:stop] for name, column in self.columns.items()},
            tokens=self.tokens[start:stop] if tokens is None else tokens,
            targets=self.targets[start:stop],
            scored=self.scored[start:stop],
            spans=tuple(
                replace(p, start=p.start - start)
                for p in self.spans
                if start <= p.start and p.start + p.span.length <= stop
            ),
        )

    def without_loss(self, scored: int) -> "Sequence":
        """The same positions, with nothing to predict where modality number ``scored`` was."""
        kept = self.scored != scored
        return replace(
            self, targets=np.where(kept, self.targets, NONE), scored=np.where(kept, self.scored, NONE)
        )

    def cut(self, length: int) -> "Sequence":
        """The first ``length`` positions; an error where more than text and the document's end would go."""
        rest = {name: self.columns[name][length:] for name in ("item", "span", "marker")}
        lost = (rest["item"] != NONE) & ((rest["span"] != NONE) | (rest["marker"] != 0))
        late = [p.item for p in self.spans if p.start + p.span.length > length] + rest["item"][lost].tolist()
        if late:
            raise TransfuseError(
                f"{self.source}: only text can be cut, and item {min(late)} does not end within {length} positions: "
                f"raise train.budget, or shorten the document"
            )
        part = self.part(0, length)
        targets, scored = part.targets.copy(), part.scored.copy()
        targets[-1] = scored[-1] = NONE
        return replace(part, targets=targets, scored=scored)


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
    def columns(self) -> dict[str, int]:
        """Columns that modalities add or are flagged by, and their value where nothing writes them.

        Raises TransfuseError where two modalities, or one and the packer, claim the same name.
        """
        found = dict.fromkeys(self.modalities, 0)
        for name, modality in self.modalities.items():
            for column, value in modality.columns().items():
                if column in WRITTEN or found.get(column, value) != value or column in self.modalities:
                    raise TransfuseError(f"modality {name!r}: column {column!r} is taken: name it otherwise")
                found[column] = value
        return found

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
        try:
            payload = modality.encode(item.data)
        except TransfuseError as error:
            raise TransfuseError(f"{place}: {error}") from error
        if payload.size == 0:
            raise TransfuseError(f"{place}: it is empty; leave the item out")
        if isinstance(modality, TokenModality):
            if payload.dtype.kind not in "iu":
                raise TransfuseError(f"{place}: ids must be whole numbers, not {payload.dtype}")
            if payload.min() < 0 or payload.max() >= modality.codes:
                wrong = payload[(payload < 0) | (payload >= modality.codes)][0]
                raise TransfuseError(
                    f"{place}: id {wrong} is outside its vocabulary 0 … {modality.codes - 1}"
                )
        elif payload.dtype.kind == "f" and not np.isfinite(payload).all():
            raise TransfuseError(f"{place}: it holds NaN or Inf; mend or drop the document")
        return payload

    def sequence(
        self, document: Document, payloads: list[np.ndarray] | None = None, *, visit: int = 0
    ) -> Sequence:
        """Lay a document out, whole. ``payloads``: what ``payloads(document)`` gave, if it was kept."""
        if not document.items:
            raise TransfuseError(f"{document.source}: the document is empty; give it at least one item")
        writer = _Writer(self, document, visit)
        writer.document(self.payloads(document) if payloads is None else payloads)
        writer.marker(END, scored=document.items[-1].loss)
        return writer.finish()

    def prompt(self, document: Document) -> tuple[Sequence, "Pen"]:
        """Lay a prompt out: as in training, but clean and open at the end; and where to go on writing."""
        given = replace(document, items=tuple(replace(item, noised=False) for item in document.items))
        writer = _Writer(self, given, visit=0)
        writer.document(self.payloads(document))
        return writer.finish(), writer.pen

    def continuation(
        self, document: Document, item: Item, payload: np.ndarray, pen: "Pen"
    ) -> tuple[Sequence, "Pen"]:
        """One more item of an open document, as it would stand had the document been laid out whole."""
        writer = _Writer(self, document, visit=0, pen=pen)
        writer.item(item, payload, is_context=False)
        return writer.finish(), writer.pen


@dataclass(frozen=True)
class Pen:
    """Where the next position of an open document is written: rotary cursor, next span, next item."""

    cursor: int = 0
    group: int = 0
    item: int = 0


class _Writer:
    """Positions so far, chunk by chunk: lists that become a sequence's arrays."""

    def __init__(self, layout: Layout, document: Document, visit: int, pen: Pen | None = None) -> None:
        self.layout, self.source, self.visit = layout, document, visit
        self.pen = pen or Pen()
        self.length = 0
        self.chunks: list[tuple[int, int, dict[str, int | np.ndarray]]] = []
        self.placed: list[PlacedSpan] = []

    def document(self, payloads: list[np.ndarray]) -> None:
        items = self.source.items
        self.marker(BEGIN, scored=False)
        for i, (item, payload) in enumerate(zip(items, payloads, strict=True)):
            self.item(item, payload, is_context=any(later.loss for later in items[i + 1 :]))

    def item(self, item: Item, payload: np.ndarray, is_context: bool) -> None:
        for span in self.layout.modalities[item.modality].spans(item, payload):
            self.span(item.modality, span, is_context)
        self.pen = replace(self.pen, item=self.pen.item + 1)

    def marker(self, label: str, scored: bool) -> None:
        """A mark of the document; ``scored``: it is predicted, as the marker modality's loss."""
        self._write(
            1, tokens=self.layout.vocabulary.marker(label), pos=self.pen.cursor, span=NONE, item=NONE, mod=NONE,
            noised=0, marker=1, scored=self._markers() if scored else NONE,
        )  # fmt: skip
        self.pen = replace(self.pen, cursor=self.pen.cursor + 1)

    def span(self, name: str, span: Span, is_context: bool) -> None:
        modality, vocabulary = self.layout.modalities[name], self.layout.vocabulary
        mod, item = self.layout.names.index(name), self.pen.item
        pos, cursor = modality.positions(span, self.pen.cursor)
        self._check(name, span)
        group = self.pen.group if span.grouped else NONE
        self.pen = replace(self.pen, cursor=cursor, group=self.pen.group + int(span.grouped))
        bounds = group if span.inside else NONE
        first = 0 if span.label is None else 1
        shared = {"pos": pos, "item": item, "mod": mod, "noised": int(span.noised), **span.columns}

        def write(start: int, stop: int, **own: int | np.ndarray) -> None:
            part = {k: v[start:stop] if isinstance(v, np.ndarray) else v for k, v in shared.items()}
            self._write(stop - start, **part, **own)

        if span.label is not None:
            begin = vocabulary.marker(begin_marker(name, span.label))
            write(0, 1, tokens=begin, span=bounds, marker=1, scored=self._markers() if span.loss else NONE)
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
        declared = self.layout.modalities[name].columns()
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

    def _markers(self) -> int:
        name = self.layout.marker_modality
        return self.layout.names.index(name) if name else NONE

    def finish(self) -> Sequence:
        missing = self.layout.columns
        arrays: dict[str, np.ndarray] = {}
        for name in {name for _, _, values in self.chunks for name in values} | missing.keys():
            arrays[name] = np.full(self.length, missing.get(name, NONE), np.int64)
        for start, stop, values in self.chunks:
            for name, value in values.items():
                arrays[name][start:stop] = value
        tokens, predicted = arrays.pop("tokens"), arrays.pop("scored")
        # What is scored at a position is the prediction of the next one.
        scored, targets = np.full_like(predicted, NONE), np.full_like(tokens, NONE)
        scored[:-1] = predicted[1:]
        targets[:-1] = np.where(predicted[1:] == NONE, NONE, tokens[1:])
        return Sequence(
            self.source.id,
            self.visit,
            self.source.source,
            arrays,
            tokens,
            targets,
            scored,
            tuple(self.placed),
        )


def check_columns(mask: Mask, layout: Layout) -> None:
    """Raises TransfuseError where a mask names a column that no document of this layout has."""
    known = {*WRITTEN, *layout.columns}
    for name in sorted(mask.columns - known):
        raise TransfuseError(f"mask {mask}: unknown column {name!r}; {did_you_mean(name, known)}")


def vocabulary_for(modalities: Mapping[str, Modality], recorded: Vocabulary | None = None) -> Vocabulary:
    """A vocabulary with the ids and markers of each modality, in order.

    recorded: a checkpoint's; what it lacks is added at its end, so that nothing is renumbered.
    Raises TransfuseError where a modality has other ids or markers than were recorded.
    """
    vocabulary = recorded or Vocabulary()
    known = {r.name: r for r in vocabulary.ranges} if recorded else {}

    def add(name: str, ids: int, labels: tuple[str, ...] = ()) -> None:
        nonlocal vocabulary
        if name not in known:
            vocabulary = vocabulary.extended(name, ids, labels)
        elif (known[name].size, known[name].labels) != (ids, labels):
            raise TransfuseError(
                f"the vocabulary records {known[name].size} ids of {name!r}, and the recipe's modality now has "
                f"{ids}{' or other markers' if labels else ''}"
            )

    for name, modality in modalities.items():
        if isinstance(modality, TokenModality):
            add(name, modality.codes)
        labels = modality.labels()
        if labels:
            markers = (*(begin_marker(name, label) for label in labels), end_marker(name))
            add(f"{name}_markers", len(markers), markers)
    return vocabulary
