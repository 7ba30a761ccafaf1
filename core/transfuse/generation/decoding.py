"""Decoding: next token until a begin marker, then that modality's sampler, its end marker, and on.

Every document has one stream of the cache per guidance view: view 0 holds everything, each other one
leaves out what it drops. All streams are laid out by the code that lays out training documents, and
the finished item is run once more, clean, so that it is what later positions see. What the model writes
itself as text is a droppable item, as prompts are; what it makes as an image is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transfuse.documents import Document, Item, View
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.generation.config import GenerationConfig
from transfuse.generation.incremental import IncrementalModel
from transfuse.modalities import seam
from transfuse.modalities.guidance import all_views, check_views
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.layout import DocumentCursor
from transfuse.sequences.sequence import DocumentSequence
from transfuse.sequences.vocabulary import END, begin_marker

WHOLE = View(frozenset())
"""The view that drops nothing."""


@dataclass
class _Continued:
    """One document being continued, and its streams: stream of view v is ``first + v``."""

    index: int
    document: Document
    first: int
    cursors: list[DocumentCursor]
    logits: list[Tensor]  # a view, [V], at its last position
    prompt_items: int
    ids: list[int] = field(default_factory=list)  # text not yet closed into an item
    tokens: int = 0  # of text so far
    begun: tuple[str, str] | None = None  # (modality, label) of an item whose begin marker was chosen
    done: bool = False


def generate(
    model: Model,
    prompts: Sequence[Document],
    config: GenerationConfig | None = None,
    *,
    indices: Sequence[int] | None = None,
    **settings: Any,
) -> list[Document]:
    """Each prompt continued, raw data decoded.

    settings: fields of `GenerationConfig`, instead of one or on top of it: ``want="image", seed=3``.
    indices: what keys each prompt's randomness, by default its place in ``prompts``.
    Raises TransfuseError where a prompt is wrong, naming document and item.
    """
    config = replace(config or GenerationConfig(), **settings)
    with torch.inference_mode():
        was_training = model.training
        model.eval()
        try:
            return _Decoder(model, prompts, config, indices or range(len(prompts))).run()
        finally:
            model.train(was_training)


class _Decoder:
    def __init__(
        self, model: Model, prompts: Sequence[Document], config: GenerationConfig, indices: Sequence[int]
    ) -> None:
        self.model, self.layout, self.config, self.key = model, model.layout, config, Key(config.seed)
        self.modalities = model.modalities
        want = config.want
        if want is not None and want not in self.modalities:
            raise TransfuseError(
                f"this model has no modality {want!r}; {did_you_mean(want, self.modalities)}"
            )
        marker_modality = self.layout.marker_modality
        if want is None and marker_modality is None:
            raise TransfuseError(
                f"no modality of this model predicts what comes next: ask for one, want= {' or '.join(self.modalities)}"
            )
        labels = seam.call(self.modalities[want], "labels") if want is not None else ()
        if want is not None and want != marker_modality and not labels:
            raise TransfuseError(f"modality {want!r} has no begin marker, so it cannot be asked for")
        if config.label not in (None, *labels):
            raise TransfuseError(
                f"modality {want!r} has no shape {config.label!r}; {did_you_mean(config.label or '', labels)}"
            )
        if not prompts:
            raise TransfuseError("nothing to continue: give at least one prompt (it may have no items)")
        self.begins = {  # by the id of a begin marker
            model.vocabulary.marker(begin_marker(name, label)): (name, label)
            for name, modality in self.modalities.items()
            for label in seam.call(modality, "labels")
        }
        check_views(self.modalities)
        self.views = (WHOLE, *all_views(self.modalities))
        laid = [self.layout.prompt(document.seen(view)) for document in prompts for view in self.views]
        capacity = max(len(sequence) for sequence, _ in laid) + self._room()
        self.incremental = IncrementalModel(model, len(laid), capacity)
        logits = list(self.incremental.append(range(len(laid)), [sequence for sequence, _ in laid]))
        self.continued = [
            _Continued(
                index=indices[i],
                document=document,
                first=i * len(self.views),
                cursors=[cursor for _, cursor in laid[i * len(self.views) : (i + 1) * len(self.views)]],
                logits=logits[i * len(self.views) : (i + 1) * len(self.views)],
                prompt_items=len(document.items),
            )
            for i, document in enumerate(prompts)
        ]

    def _room(self) -> int:
        """Positions a document may grow by."""
        longest = 0
        for name, label in self.begins.values():
            longest = max(longest, sum(s.positions for s in self._blank(name, label)[1]))
        return self.config.tokens + (1 if self.config.want else self.config.items) * longest

    # -- token by token

    def run(self) -> list[Document]:
        while active := [one for one in self.continued if not one.done]:
            in_text = [one for one in active if one.begun is None]
            if in_text:
                self._next_tokens(in_text)
            else:
                # Documents that began items of one shape go through its sampler together.
                first = active[0].begun
                assert first is not None
                self._sample_items([one for one in active if one.begun == first], *first)
        return [one.document for one in self.continued]

    def _next_tokens(self, documents: list[_Continued]) -> None:
        """One more token for each: text, a begin marker, or the end."""
        marker_modality = self.layout.marker_modality
        grown: list[tuple[_Continued, int, DocumentSequence]] = []
        for one in documents:
            id = self._next(one, marker_modality)
            owner = self.begins.get(id)
            if owner is not None:
                self._close_text(one)
                one.begun = owner
            elif id == self.model.vocabulary.marker(END):
                self._close_text(one)
                one.done = True
            else:
                assert marker_modality is not None
                payload = np.array([id - self.model.vocabulary.range(marker_modality).start])
                token = Item(marker_modality, None, droppable=True)
                for v, view in enumerate(self.views):
                    if view.keeps(token):
                        cursor = replace(one.cursors[v], item=len(one.document.seen(view).items))
                        sequence, one.cursors[v] = self.layout.continuation(
                            one.document, token, payload, cursor
                        )
                        grown.append((one, v, sequence))
                one.ids.append(int(payload[0]))
                one.tokens += 1
        if grown:
            logits = self.incremental.append(
                [one.first + v for one, v, _ in grown], [sequence for _, _, sequence in grown]
            )
            for (one, v, _), row in zip(grown, logits, strict=True):
                one.logits[v] = row

    def _next(self, one: _Continued, marker_modality: str | None) -> int:
        """The next id of a document in text, from what is allowed there."""
        vocabulary = self.model.vocabulary
        allowed = torch.zeros(vocabulary.size, dtype=torch.bool, device=one.logits[0].device)
        want, label = self.config.want, self.config.label
        begins = [id for id, own in self.begins.items() if want in (None, own[0]) and label in (None, own[1])]
        open_ended = self.config.want is None or not begins
        more = len(one.document.items) - one.prompt_items + bool(one.ids) < self.config.items
        if open_ended:
            allowed[begins] = more
            allowed[vocabulary.marker(END)] = self.config.want is None or bool(one.ids)
            if marker_modality is not None and one.tokens < self.config.tokens and (more or one.ids):
                r = vocabulary.range(marker_modality)
                allowed[r.start : r.stop] = True
        elif marker_modality is None:
            return self._only(begins)
        else:
            allowed[begins] = True
            if not self.model.predictable[begins].any():
                raise TransfuseError(
                    f"the model was never trained to begin {self.config.want!r}; train it on documents that hold some"
                )
        chooser = self.model.token_modalities.get(marker_modality) if marker_modality is not None else None
        logits = one.logits[0].masked_fill(~allowed, -torch.inf)
        if self.config.greedy or chooser is None or not open_ended:
            return int(logits.argmax())
        generator = self.key.generator("text", one.index, len(one.document.items), len(one.ids))
        return seam.choose(chooser, logits[None], generator, 1.0)

    def _only(self, begins: list[int]) -> int:
        """The begin marker of a model in which nothing predicts any."""
        if len(begins) > 1:
            labels = ", ".join(self.begins[id][1] for id in begins)
            raise TransfuseError(
                f"no modality of this model predicts which of its shapes {self.config.want!r} has ({labels}): say it, "
                f"label= or --want {self.config.want}:LABEL"
            )
        return begins[0]

    def _close_text(self, one: _Continued) -> None:
        """The tokens since the last item become an item."""
        marker_modality = self.layout.marker_modality
        if one.ids and marker_modality is not None:
            raw = seam.call(self.modalities[marker_modality], "decode", np.array(one.ids))
            self._append(one, Item(marker_modality, raw, droppable=True))
            one.cursors = [
                replace(cursor, item=len(one.document.seen(view).items))
                for cursor, view in zip(one.cursors, self.views, strict=True)
            ]
            one.ids = []

    def _append(self, one: _Continued, item: Item) -> None:
        one.document = replace(one.document, items=(*one.document.items, item))

    # -- items that a begin marker opens

    def _blank(self, name: str, label: str) -> tuple[np.ndarray, list]:
        """An item of this shape before anything is known of it, as it is laid out for sampling."""
        modality = self.modalities[name]
        payload = seam.payload(modality, "blank", label)
        return payload, seam.spans(modality, Item(name, None), payload)

    def _sample_items(self, documents: list[_Continued], name: str, label: str) -> None:
        """An item of this shape for each: sampled in the modality's own views, committed in all."""
        payload, _ = self._blank(name, label)
        own = [self.views.index(view) for view in (WHOLE, *self.modalities[name].views)]
        owners = [(one, v) for v in own for one in documents]  # view by view
        streams = [one.first + v for one, v in owners]
        laid = [
            self.layout.continuation(Document(()), Item(name, None), payload, one.cursors[v])[0]
            for one, v in owners
        ]
        if name in self.model.token_modalities:
            payloads, kept = self._choose_ids(documents, streams, laid, name)
        else:
            start, stop = _sampled(laid[0])
            if start:
                self.incremental.append(streams, [s.slice(0, start) for s in laid])
            evaluate = self.incremental.evaluate(streams, [s.slice(start, stop) for s in laid])
            generators = [
                self.key.generator("sample", one.index, len(one.document.items)) for one in documents
            ]
            modality = self.model.span_modalities[name]
            payloads, kept = seam.sample(modality, evaluate, label, generators, payload), start
        payloads = payloads.reshape(len(documents), *payload.shape)
        self._commit(documents, name, payloads, dict.fromkeys(streams, kept))

    def _choose_ids(
        self, documents: list[_Continued], streams: list[int], laid: list[DocumentSequence], name: str
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
            for d, one in enumerate(documents):
                generator = self.key.generator("sample", one.index, len(one.document.items), i)
                ids[d, i] = seam.choose(modality, own[:, d], generator, (n - i) / n) - r.start
        return ids, n

    def _commit(
        self, documents: list[_Continued], name: str, payloads: np.ndarray, kept: Mapping[int, int]
    ) -> None:
        """The finished item, clean, in every view of its document; ``kept``: positions a stream has of it."""
        modality = self.modalities[name]
        streams: list[int] = []
        laid: list[DocumentSequence] = []
        for one, payload in zip(documents, payloads, strict=True):
            item = Item(name, seam.call(modality, "decode", payload), noised=False)
            for v in range(len(self.views)):
                sequence, one.cursors[v] = self.layout.continuation(
                    one.document, item, payload, one.cursors[v]
                )
                streams.append(one.first + v)
                laid.append(sequence.slice(kept.get(one.first + v, 0), len(sequence)))
            self._append(one, item)
            one.begun = None
            one.done = (
                self.config.want is not None
                or len(one.document.items) - one.prompt_items >= self.config.items
            )
        logits = self.incremental.append(streams, laid)
        for i, one in enumerate(documents):
            one.logits = list(logits[i * len(self.views) : (i + 1) * len(self.views)])


def _sampled(sequence: DocumentSequence) -> tuple[int, int]:
    """Where the span that is sampled begins and ends: an item's first, with markers if they are inside it.

    What stands before it does not see it, so it is written once; a clean copy behind it is written
    when it is known.
    """
    first = sequence.spans[0]
    margin = int(first.span.inside and first.span.label is not None)
    return first.start - margin, first.start + first.span.length + margin
