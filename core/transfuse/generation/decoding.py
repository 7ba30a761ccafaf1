"""Decoding walks: next token until a begin marker, then that modality's sampler, its end marker, and on.

Every document has one stream of the cache per guidance view: view 0 holds everything, each other one
leaves out what it drops. All streams are laid out by the code that lays out training documents, and
the finished item is run once more, clean, so that it is what later positions see. What the model writes
itself as text is a droppable item, as prompts are; what it makes as an image is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from transfuse.documents import Document, Item, View
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.generation.incremental import IncrementalModel
from transfuse.modalities.guidance import all_views, check_views
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.layout import DocumentCursor
from transfuse.sequences.sequence import DocumentSequence
from transfuse.sequences.vocabulary import END, begin_marker

WHOLE = View(frozenset())
"""The view that drops nothing."""


@dataclass
class _Written:
    """One document being written, and its streams: stream of view v is ``first + v``."""

    index: int
    document: Document
    first: int
    cursors: list[DocumentCursor]
    logits: list[Tensor]  # a view, [V], at its last position
    given: int  # items of the prompt
    open_ids: list[int] = field(default_factory=list)  # text not yet closed into an item
    said: int = 0  # tokens of text so far
    label: tuple[str, str] | None = None  # (modality, label) of a begun item
    done: bool = False


def generate(
    model: Model,
    prompts: Sequence[Document],
    *,
    want: str | None = None,
    seed: int = 0,
    tokens: int = 32,
    items: int = 8,
    indices: Sequence[int] | None = None,
    greedy: bool = False,
) -> list[Document]:
    """Each prompt continued, raw data decoded.

    want: None goes on until the model ends the document. A modality's name asks for one item of it:
        with begin markers, the model only chooses which; without (text), the item ends with the document.
    tokens: at most so many tokens of open-ended text a document; items: at most so many items.
    indices: what keys each prompt's randomness, by default its place in ``prompts``.
    greedy: text is the likeliest token at each place, whatever the modality's temperature.
    Raises TransfuseError where a prompt is wrong, naming document and item.
    """
    with torch.inference_mode():
        was_training = model.training
        model.eval()
        try:
            return _Decoder(model, prompts, want, Key(seed), tokens, items, indices, greedy).run()
        finally:
            model.train(was_training)


class _Decoder:
    def __init__(
        self,
        model: Model,
        prompts: Sequence[Document],
        want: str | None,
        key: Key,
        tokens: int,
        items: int,
        indices: Sequence[int] | None,
        greedy: bool,
    ) -> None:
        self.model, self.layout, self.key, self.want = model, model.layout, key, want
        self.modalities = model.modalities
        self.tokens, self.items, self.greedy = tokens, items, greedy
        if want is not None and want not in self.modalities:
            raise TransfuseError(
                f"this model has no modality {want!r}; {did_you_mean(want, self.modalities)}"
            )
        marker_modality = self.layout.marker_modality
        if want is None and marker_modality is None:
            raise TransfuseError(
                f"no modality of this model predicts what comes next: ask for one, want= {' or '.join(self.modalities)}"
            )
        if want is not None and want != marker_modality and not self.modalities[want].labels():
            raise TransfuseError(f"modality {want!r} has no begin marker, so it cannot be asked for")
        if tokens < 1 or items < 1:
            raise TransfuseError(f"tokens and items must be at least 1, not {tokens} and {items}")
        if not prompts:
            raise TransfuseError("nothing to continue: give at least one prompt (it may have no items)")
        self.begins = {  # by the id of a begin marker
            model.vocabulary.marker(begin_marker(name, label)): (name, label)
            for name, modality in self.modalities.items()
            for label in modality.labels()
        }
        check_views(self.modalities)
        self.views = (WHOLE, *all_views(self.modalities))
        laid = [self.layout.prompt(document.seen(view)) for document in prompts for view in self.views]
        capacity = max(len(sequence) for sequence, _ in laid) + self._room()
        self.incremental = IncrementalModel(model, len(laid), capacity)
        logits = list(self.incremental.append(range(len(laid)), [sequence for sequence, _ in laid]))
        self.written = [
            _Written(
                index=indices[i] if indices is not None else i,
                document=document,
                first=i * len(self.views),
                cursors=[cursor for _, cursor in laid[i * len(self.views) : (i + 1) * len(self.views)]],
                logits=logits[i * len(self.views) : (i + 1) * len(self.views)],
                given=len(document.items),
            )
            for i, document in enumerate(prompts)
        ]

    def _room(self) -> int:
        """Positions a document may grow by."""
        longest = 0
        for name, label in self.begins.values():
            longest = max(longest, sum(s.positions for s in self._blank(name, label)[1]))
        return self.tokens + (1 if self.want else self.items) * longest

    # -- the loop

    def run(self) -> list[Document]:
        while active := [w for w in self.written if not w.done]:
            speaking = [w for w in active if w.label is None]
            if speaking:
                self._speak(speaking)
            else:
                # Documents that begun items of one shape go through its sampler together.
                first = active[0].label
                assert first is not None
                self._make([w for w in active if w.label == first], *first)
        return [w.document for w in self.written]

    def _speak(self, documents: list[_Written]) -> None:
        """One more token for each: text, a begin marker, or the end."""
        marker_modality = self.layout.marker_modality
        grown: list[tuple[_Written, int, DocumentSequence]] = []
        for w in documents:
            id = self._next(w, marker_modality)
            owner = self.begins.get(id)
            if owner is not None:
                self._close(w)
                w.label = owner
            elif id == self.model.vocabulary.marker(END):
                self._close(w)
                w.done = True
            else:
                assert marker_modality is not None
                payload = np.array([id - self.model.vocabulary.range(marker_modality).start])
                said = Item(marker_modality, None, droppable=True)
                for v, view in enumerate(self.views):
                    if view.keeps(said):
                        cursor = replace(w.cursors[v], item=len(w.document.seen(view).items))
                        sequence, w.cursors[v] = self.layout.continuation(w.document, said, payload, cursor)
                        grown.append((w, v, sequence))
                w.open_ids.append(int(payload[0]))
                w.said += 1
        if grown:
            logits = self.incremental.append(
                [w.first + v for w, v, _ in grown], [sequence for _, _, sequence in grown]
            )
            for (w, v, _), row in zip(grown, logits, strict=True):
                w.logits[v] = row

    def _next(self, w: _Written, marker_modality: str | None) -> int:
        """The next id of a document in text, from what is allowed there."""
        vocabulary = self.model.vocabulary
        allowed = torch.zeros(vocabulary.size, dtype=torch.bool, device=w.logits[0].device)
        begins = [id for id, (name, _) in self.begins.items() if self.want in (None, name)]
        open_ended = self.want is None or not begins
        more = len(w.document.items) - w.given + bool(w.open_ids) < self.items
        if open_ended:
            allowed[begins] = more
            allowed[vocabulary.marker(END)] = self.want is None or bool(w.open_ids)
            if marker_modality is not None and w.said < self.tokens and (more or w.open_ids):
                r = vocabulary.range(marker_modality)
                allowed[r.start : r.stop] = True
        elif marker_modality is None:
            return self._only(begins)
        else:
            allowed[begins] = True
            if not self.model.predictable[begins].any():
                raise TransfuseError(
                    f"the model was never trained to begin {self.want!r}; train it on documents that hold some"
                )
        chooser = self.model.token_modalities.get(marker_modality) if marker_modality is not None else None
        logits = w.logits[0].masked_fill(~allowed, -torch.inf)
        if self.greedy or chooser is None or not open_ended:
            return int(logits.argmax())
        generator = self.key.generator("text", w.index, len(w.document.items), len(w.open_ids))
        return chooser.choose(logits[None], generator, 1.0)

    def _only(self, begins: list[int]) -> int:
        """The begin marker of a model in which nothing predicts any."""
        if len(begins) > 1:
            shapes = ", ".join(self.model.vocabulary.name(id) for id in begins)
            raise TransfuseError(
                f"no modality of this model chooses among {shapes}: train with one that predicts markers"
            )
        return begins[0]

    def _close(self, w: _Written) -> None:
        """What was said becomes an item."""
        marker_modality = self.layout.marker_modality
        if w.open_ids and marker_modality is not None:
            raw = self.modalities[marker_modality].decode(np.array(w.open_ids))
            self._append(w, Item(marker_modality, raw, droppable=True))
            w.cursors = [
                replace(cursor, item=len(w.document.seen(view).items))
                for cursor, view in zip(w.cursors, self.views, strict=True)
            ]
            w.open_ids = []

    def _append(self, w: _Written, item: Item) -> None:
        w.document = replace(w.document, items=(*w.document.items, item))

    # -- items that a begin marker opens

    def _blank(self, name: str, label: str) -> tuple[np.ndarray, list]:
        """An item of this shape before anything is known of it, as it is laid out for sampling."""
        modality = self.modalities[name]
        payload = modality.blank(label)
        return payload, modality.spans(Item(name, None), payload)

    def _make(self, documents: list[_Written], name: str, label: str) -> None:
        """An item of this shape for each: sampled in the modality's own views, committed in all."""
        payload, _ = self._blank(name, label)
        own = [self.views.index(view) for view in (WHOLE, *self.modalities[name].views)]
        owners = [(w, v) for v in own for w in documents]  # view by view
        streams = [w.first + v for w, v in owners]
        laid = [
            self.layout.continuation(Document(()), Item(name, None), payload, w.cursors[v])[0]
            for w, v in owners
        ]
        if name in self.model.token_modalities:
            payloads, written = self._spell(documents, streams, laid, name)
        else:
            start, stop = _sampled(laid[0])
            if start:
                self.incremental.append(streams, [s.slice(0, start) for s in laid])
            evaluate = self.incremental.evaluate(streams, [s.slice(start, stop) for s in laid])
            generators = [self.key.generator("sample", w.index, len(w.document.items)) for w in documents]
            sampled = self.model.span_modalities[name].sample(evaluate, label, generators)
            payloads, written = sampled.cpu().numpy(), start
        payloads = payloads.reshape(len(documents), *payload.shape)
        self._commit(documents, name, payloads, dict.fromkeys(streams, written))

    def _spell(
        self, documents: list[_Written], streams: list[int], laid: list[DocumentSequence], name: str
    ) -> tuple[np.ndarray, int]:
        """n ids, one after another, each drawn from all views' logits; and how many positions that wrote."""
        modality, r = self.model.token_modalities[name], self.model.vocabulary.range(name)
        n, views = len(laid[0]) - 2, 1 + len(modality.views)
        ids = np.zeros((len(documents), n), np.int64)
        for i in range(n):
            tokens = np.tile(ids[:, i - 1] + r.start, views) if i else [s.tokens[0] for s in laid]
            pieces = [s.slice(i, i + 1, np.array([t])) for s, t in zip(laid, tokens, strict=True)]
            logits = self.incremental.append(streams, pieces).unflatten(0, (views, len(documents)))
            own = torch.full_like(logits, -torch.inf)
            own[..., r.start : r.stop] = logits[..., r.start : r.stop]
            for d, w in enumerate(documents):
                generator = self.key.generator("sample", w.index, len(w.document.items), i)
                ids[d, i] = modality.choose(own[:, d], generator, (n - i) / n) - r.start
        return ids, n

    def _commit(
        self, documents: list[_Written], name: str, payloads: np.ndarray, written: Mapping[int, int]
    ) -> None:
        """The finished item, clean, in every view of its document; ``written``: positions a stream has of it."""
        modality = self.modalities[name]
        streams: list[int] = []
        laid: list[DocumentSequence] = []
        for w, payload in zip(documents, payloads, strict=True):
            item = Item(name, modality.decode(payload), noised=False)
            for v in range(len(self.views)):
                sequence, w.cursors[v] = self.layout.continuation(w.document, item, payload, w.cursors[v])
                streams.append(w.first + v)
                laid.append(sequence.slice(written.get(w.first + v, 0), len(sequence)))
            self._append(w, item)
            w.label = None
            w.done = self.want is not None or len(w.document.items) - w.given >= self.items
        logits = self.incremental.append(streams, laid)
        for i, w in enumerate(documents):
            w.logits = list(logits[i * len(self.views) : (i + 1) * len(self.views)])


def _sampled(sequence: DocumentSequence) -> tuple[int, int]:
    """Where the span that is sampled begins and ends: an item's first, with markers if they are inside it.

    What stands before it does not see it, so it is written once; a clean copy behind it is written
    when it is known.
    """
    first = sequence.spans[0]
    margin = int(first.span.inside and first.span.label is not None)
    return first.start - margin, first.start + first.span.length + margin
