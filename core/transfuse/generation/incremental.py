"""The model over a cache: a stream for each view of each document, which grows and attends to what it holds.

Documents stand in rows, the same for all views: a call takes the first rows of some views, view by view, all
documents of a view at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.attention.kv_cache import Block, KVCache
from transfuse.generation.prompts import PackedPrompts
from transfuse.masks import NONE
from transfuse.modalities import seam
from transfuse.modalities.modality import Evaluate
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.rows import join
from transfuse.sequences.sequence import DocumentSequence


class IncrementalModel:
    """A model and the keys and values of documents in views, of at most ``capacity`` positions each."""

    def __init__(self, model: Model, documents: int, capacity: int, views: int = 1) -> None:
        s, device = model.settings, model.tokens.weight.device
        self.model, self.documents = model, documents
        self.cache = KVCache(
            model.mask, s.layers, s.key_value_heads, s.head_width, views * documents, capacity,
            model.compute_dtype, device,
        )  # fmt: skip

    def prefill(self, prompts: PackedPrompts) -> Float[Tensor, "documents V"]:
        """Prompts written into empty streams, each computed once; the logits behind the last of view 0."""
        model, cache, row = self.model, self.cache, prompts.row
        streams = prompts.view * self.documents + prompts.document
        read = {name: values[prompts.source] for name, values in row.columns.items()}
        cache.label(streams, prompts.place, read)
        batch = _clean(model, row)
        backend, plan = model.plan(row.columns, row.columns, prompts.rule)
        source = torch.from_numpy(prompts.source).to(batch.tokens.device)
        slots = cache.slots(streams, prompts.place)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            cache.write(layer, slots, k[:, source], v[:, source])
            return backend.attend(q, k, v, plan)

        layers = [partial(attend, layer) for layer in range(model.settings.layers)]
        hidden, _ = model.transform(batch, model.prepare(batch), layers)
        np.maximum.at(cache.length, streams, prompts.place + 1)
        return model.logits(hidden[torch.from_numpy(prompts.last).to(hidden.device)])

    def append(
        self, views: Sequence[int], sequences: Sequence[DocumentSequence]
    ) -> Float[Tensor, "sequences V"]:
        """Write sequences at the end of streams, clean, one length a view; the logits behind the last of each."""
        step = self._of(views, sequences)
        hidden, _ = step.run(step.batch)
        self.cache.commit(step.blocks)
        ends = np.cumsum([len(s) for s in sequences]) - 1
        return self.model.logits(hidden[torch.from_numpy(ends).to(hidden.device)])

    def evaluate(self, views: Sequence[int], sequences: Sequence[DocumentSequence]) -> Evaluate:
        """Predictions for one span at the end of each stream, of which nothing is kept; view 0 comes first."""
        return _Evaluate(self, views, sequences)

    def in_turn(self, views: Sequence[int], sequences: Sequence[DocumentSequence]) -> "InTurn":
        """Sequences of ids, all of one length, whose positions are written one after another."""
        return InTurn(self, views, sequences)

    def swap(self, a: Sequence[int], b: Sequence[int]) -> None:
        """Exchange documents' rows, in all views."""
        firsts = range(0, len(self.cache.length), self.documents)
        self.cache.swap(*([first + row for first in firsts for row in rows] for rows in (a, b)))

    def _of(self, views: Sequence[int], sequences: Sequence[DocumentSequence]) -> "_Step":
        many = len(sequences) // len(views)
        lengths = [len(sequences[i * many]) for i in range(len(views))]
        batch = _clean(self.model, join(list(sequences)))
        # In a stream spans are numbered by their document, whose numbers do not change from step to step.
        span = np.concatenate([s.columns["span"] for s in sequences])
        return _Step(self, views, many, lengths, batch, {**batch.columns, "span": span})


class _Step:
    """The next positions of some streams, planned once; running it again overwrites the same slots."""

    def __init__(
        self,
        incremental: IncrementalModel,
        views: Sequence[int],
        documents: int,
        lengths: Sequence[int],
        batch: Batch,
        columns: Mapping[str, np.ndarray],
    ) -> None:
        self.model, self.batch, cache = incremental.model, batch, incremental.cache
        firsts = [view * incremental.documents for view in views]
        self.blocks = [Block(first, documents, n) for first, n in zip(firsts, lengths, strict=True)]
        plan = cache.plan(self.blocks, columns)
        self.attend = [partial(cache.attend, layer, plan) for layer in range(self.model.settings.layers)]
        self.prepared = self.model.prepare(batch)

    def run(self, batch: Batch) -> tuple[Float[Tensor, "T D"], list]:
        return self.model.transform(batch, self.prepared, self.attend)


class InTurn:
    """Ids written one position after another, of all streams at once: their columns are known beforehand."""

    def __init__(
        self, incremental: IncrementalModel, views: Sequence[int], sequences: Sequence[DocumentSequence]
    ) -> None:
        self.incremental, self.views, self.at = incremental, views, 0
        self.tokens = np.stack([s.tokens for s in sequences])
        self.columns = {name: np.stack([s.columns[name] for s in sequences]) for name in sequences[0].columns}

    def append(self, ids: Int[np.ndarray, " streams"]) -> Float[Tensor, "streams V"]:
        """The next position of each stream is this id; the logits behind it."""
        model, at, streams = self.incremental.model, self.at, np.arange(len(ids))
        self.at += 1
        own = {name: values[:, at] for name, values in self.columns.items()}
        span = np.where(own["span"] == NONE, NONE, streams)
        columns = {**own, "span": span, "doc": streams, "sample": streams, "idx": streams}
        device, none = model.tokens.weight.device, torch.zeros(0, dtype=torch.long)
        places = np.stack([columns[axis] for axis in model.settings.rope], axis=1)
        tokens, positions = torch.from_numpy(ids), torch.from_numpy(places)
        batch = Batch(columns, tokens, positions, none, none, none.numpy(), (), {}).to(device)
        many = len(ids) // len(self.views)
        step = _Step(self.incremental, self.views, many, [1] * len(self.views), batch, own)
        hidden, _ = step.run(batch)
        self.incremental.cache.commit(step.blocks)
        return model.logits(hidden)

    def keep(self, rows: Sequence[int]) -> None:
        """Of each view's documents these alone are left, in this order, as they are in the cache."""
        views = len(self.views)
        for name, values in self.columns.items():
            self.columns[name] = values.reshape(views, -1, values.shape[1])[:, rows].reshape(
                -1, values.shape[1]
            )


class _Evaluate(Evaluate):
    """Steps are planned when they are first asked for: of all views, or of the first alone."""

    def __init__(
        self, incremental: IncrementalModel, views: Sequence[int], sequences: Sequence[DocumentSequence]
    ) -> None:
        self.incremental, self.views, self.sequences = incremental, views, sequences
        self.modality = incremental.model.span_modalities[sequences[0].spans[0].modality]
        self.documents = len(sequences) // len(views)
        self.steps: dict[int, _Step] = {}

    def __call__(self, x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
        views = len(self.views) if guided else 1
        if views not in self.steps:
            some = self.sequences[: views * self.documents]
            self.steps[views] = self.incremental._of(self.views[:views], some)
        step, model = self.steps[views], self.incremental.model
        (group,) = step.batch.groups
        seam.asked(self.modality, x_t, t, group.x_t[: self.documents])
        group = replace(group, x_t=x_t.repeat(views, *[1] * (x_t.dim() - 1)), t=t.repeat(views))
        hidden, states = step.run(replace(step.batch, groups=(group,)))
        return list(model.predict(hidden, group, states[0]).chunk(views))


def _clean(model: Model, row) -> Batch:
    """A row as a batch in which nothing is corrupted, where the model is."""
    batch = collate(row, model.modalities, Key(0), model.settings.rope, clean=True)
    return batch.to(model.tokens.weight.device)
