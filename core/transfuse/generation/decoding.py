"""Decoding: next token until a begin marker, then that modality's sampler, its end marker, and on.

Documents are continued a chunk at a time, all of a chunk together. Each has one stream of the cache per guidance
view: view 0 holds everything, each other one leaves out what it drops. All streams are laid out by the code that
lays out training documents, and the finished item is run once more, clean, so that it is what later positions
see. What the model writes itself as text is a droppable item, as prompts are; what it makes as an image is not.

The documents that a call is of stand in the first rows of the cache: others make room for them (`_Chunk.front`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation.asked import TEXT, WHOLE, Asked, Continued
from transfuse.generation.config import GenerationConfig
from transfuse.generation.incremental import IncrementalModel, InTurn
from transfuse.generation.prompts import LaidPrompt, pack_prompts
from transfuse.modalities import seam
from transfuse.model.model import Model
from transfuse.model.precision import computing_in
from transfuse.sequences.sequence import DocumentSequence

LAID = 128
"""Tokens of text that are laid out at a time."""


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
    return list(generate_chunks(model, prompts, config, indices=indices, **settings))


def generate_chunks(
    model: Model,
    prompts: Sequence[Document],
    config: GenerationConfig | None = None,
    *,
    indices: Sequence[int] | None = None,
    **settings: Any,
) -> Iterator[Document]:
    """As `generate`, in order, those of a chunk as soon as it is done."""
    config = replace(config or GenerationConfig(), **settings)
    asked = Asked(model, config)
    if not prompts:
        raise TransfuseError("nothing to continue: give at least one prompt (it may have no items)")
    chunks = asked.chunks(zip(prompts, indices or range(len(prompts)), strict=True))
    made: list[Document] | None = []
    while made is not None:
        yield from made
        was_training = model.training
        with torch.inference_mode(), computing_in(model, config.dtype):
            model.eval()
            try:
                chunk = next(chunks, None)
                made = None if chunk is None else _Chunk(asked, *chunk).run()
            finally:
                model.train(was_training)


class _Chunk:
    """Some documents continued together, in the order of their rows in the cache."""

    def __init__(self, asked: Asked, prompts: Sequence[tuple[LaidPrompt, int]], capacity: int) -> None:
        self.asked, self.model, self.layout = asked, asked.model, asked.layout
        self.views, self.config = asked.views, asked.config
        self.incremental = IncrementalModel(self.model, len(prompts), capacity, len(self.views))
        laid = [prompt for prompt, _ in prompts]
        logits = self.incremental.prefill(pack_prompts(laid, self.model.mask))
        self.rows = [
            Continued(index, prompt.document, list(prompt.cursors), own, len(prompt.document.items))
            for (prompt, index), own in zip(prompts, logits, strict=True)
        ]

    def run(self) -> list[Document]:
        documents = list(self.rows)
        while active := [one for one in documents if not one.done]:
            if in_text := [one for one in active if one.begun is None]:
                self._write(in_text)
            elif begun := active[0].begun:
                # All that began items of one shape go through its sampler together.
                self._sample([one for one in active if one.begun == begun], *begun)
        return [one.document for one in documents]

    def front(self, documents: Sequence[Continued]) -> list[Continued]:
        """These documents brought to the first rows of the cache; in the order in which they now stand there."""
        n, moved = len(documents), set(documents)
        holes = [row for row in range(n) if self.rows[row] not in moved]
        others = [row for row in range(n, len(self.rows)) if self.rows[row] in moved]
        if holes:
            self.incremental.swap(holes, others)
            for a, b in zip(holes, others, strict=True):
                self.rows[a], self.rows[b] = self.rows[b], self.rows[a]
        return self.rows[:n]

    # -- text, token by token

    def _write(self, documents: Sequence[Continued]) -> None:
        """Text of each document until it begins an item or ends; those that do are left out of what is computed."""
        documents = self.front(documents)
        logits, run = torch.stack([one.logits for one in documents]), None
        while True:
            ids = self.asked.next_ids(documents, logits)
            goes_on = self.asked.kinds[ids] == TEXT
            if not goes_on.all():
                before = {one: i for i, one in enumerate(documents)}
                for i in np.flatnonzero(~goes_on):
                    self._close(documents[i], int(ids[i]))
                documents = self.front([documents[i] for i in np.flatnonzero(goes_on)])
                if not documents:
                    return
                order = [before[one] for one in documents]
                ids = ids[order]
                if run is not None:
                    run.keep(order)
            said = len(documents[0].ids)
            if run is None or said % LAID == 0:
                run = self._text(documents, said)
            logits = run.append(np.tile(ids, len(run.views)))[: len(documents)]
            for one, id in zip(documents, ids.tolist(), strict=True):
                one.ids.append(id)

    def _text(self, documents: Sequence[Continued], said: int) -> InTurn:
        """The next positions of the text that each document is in, in the views that keep it."""
        writer = self.asked.writer
        assert writer is not None
        token = Item(writer, None, droppable=True)
        more = np.zeros(min(LAID, max(self.config.tokens - one.tokens - said for one in documents)), np.int64)
        kept, laid = [v for v, view in enumerate(self.views) if view.keeps(token)], []
        for v in kept:
            for one in documents:
                payload = np.concatenate([self._own(one.ids), more])
                whole, _ = self.layout.continuation(one.document, token, payload, one.cursors[v])
                laid.append(whole.slice(said, len(payload)))
        return InTurn(self.incremental, kept, laid)

    def _own(self, ids: list[int]) -> Int[np.ndarray, " n"]:
        """Ids of text, counted from the start of its range."""
        return np.array(ids, np.int64) - self.model.vocabulary.range(self.asked.writer or "").start

    def _close(self, one: Continued, id: int) -> None:
        """The tokens since the last item become an item; then another begins, or the document ends."""
        writer = self.asked.writer
        if one.ids and writer is not None:
            payload = self._own(one.ids)
            item = Item(writer, seam.call(self.model.modalities[writer], "decode", payload), droppable=True)
            for v, view in enumerate(self.views):
                if view.keeps(item):
                    _, one.cursors[v] = self.layout.continuation(one.document, item, payload, one.cursors[v])
            one.document = replace(one.document, items=(*one.document.items, item))
            one.tokens, one.ids = one.tokens + len(one.ids), []
        one.begun = self.asked.begins.get(id)
        one.done = one.begun is None

    # -- items that a begin marker opens

    def _sample(self, documents: Sequence[Continued], name: str, label: str) -> None:
        """An item of this shape for each: sampled in the modality's own views, committed in all."""
        documents = self.front(documents)
        payload, _ = self.asked.blank(name, label)
        own = [self.views.index(view) for view in (WHOLE, *self.model.modalities[name].views)]
        starts = [one.cursors[v] for v in own for one in documents]
        blank = Item(name, None)
        laid = [self.layout.continuation(Document(()), blank, payload, start)[0] for start in starts]
        if name in self.model.token_modalities:
            payloads, kept = self._choose_ids(documents, own, laid, name)
        else:
            start, stop = _sampled(laid[0])
            if start:
                self.incremental.append(own, [s.slice(0, start) for s in laid])
            evaluate = self.incremental.evaluate(own, [s.slice(start, stop) for s in laid])
            generators = [self._generator(one) for one in documents]
            modality = self.model.span_modalities[name]
            payloads, kept = seam.sample(modality, evaluate, label, generators, payload), start
        payloads = payloads.reshape(len(documents), *payload.shape)
        self._commit(documents, name, payloads, [kept if v in own else 0 for v in range(len(self.views))])

    def _generator(self, one: Continued, *place: int) -> torch.Generator:
        return self.asked.key.generator("sample", one.index, len(one.document.items), *place)

    def _choose_ids(
        self,
        documents: Sequence[Continued],
        views: Sequence[int],
        laid: Sequence[DocumentSequence],
        name: str,
    ) -> tuple[np.ndarray, int]:
        """n ids, one after another, each drawn from all views' logits; and how many positions that wrote."""
        modality, r = self.model.token_modalities[name], self.model.vocabulary.range(name)
        n = len(laid[0]) - 2
        run, ids = InTurn(self.incremental, views, laid), np.zeros((len(documents), n), np.int64)
        token = np.array([s.tokens[0] for s in laid])
        for i in range(n):
            logits = run.append(token).unflatten(0, (len(views), -1)).transpose(0, 1)
            own = torch.full_like(logits, -torch.inf)
            own[..., r.start : r.stop] = logits[..., r.start : r.stop]
            generators = [self._generator(one, i) for one in documents]
            chosen = seam.choose_each(modality, own, generators, (n - i) / n)
            ids[:, i], token = chosen - r.start, np.tile(chosen, len(views))
        return ids, n

    def _commit(
        self, documents: Sequence[Continued], name: str, payloads: np.ndarray, kept: Sequence[int]
    ) -> None:
        """The finished item, clean, in every view of its document; ``kept``: positions that a view has of it."""
        decoded = [seam.call(self.model.modalities[name], "decode", payload) for payload in payloads]
        items, laid = [Item(name, raw, noised=False) for raw in decoded], []
        for v, written in enumerate(kept):
            for one, item, payload in zip(documents, items, payloads, strict=True):
                whole, one.cursors[v] = self.layout.continuation(one.document, item, payload, one.cursors[v])
                laid.append(whole.slice(written, len(whole)))
        logits = self.incremental.append(range(len(kept)), laid)
        for one, item, own in zip(documents, items, logits[: len(documents)], strict=True):
            one.document = replace(one.document, items=(*one.document.items, item))
            one.logits, one.begun = own, None
            one.done = self.config.want is not None or one.items >= self.config.items


def _sampled(sequence: DocumentSequence) -> tuple[int, int]:
    """Where the span that is sampled begins and ends: an item's first, with markers if they are inside it.

    What stands before it does not see it, so it is written once; a clean copy behind it is written
    when it is known.
    """
    first = sequence.spans[0]
    margin = int(first.span.inside and first.span.label is not None)
    return first.start - margin, first.start + first.span.length + margin
