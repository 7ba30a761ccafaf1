"""The model over a cache: streams of positions that grow, each attending to what it holds already."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.attention.kv_cache import KVCache
from transfuse.masks import NONE
from transfuse.modalities import seam
from transfuse.modalities.modality import Evaluate
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.rows import join
from transfuse.sequences.sequence import DocumentSequence


class IncrementalModel:
    """A model and the keys and values of ``streams`` streams, of at most ``capacity`` positions each."""

    def __init__(self, model: Model, streams: int, capacity: int) -> None:
        s, weight = model.settings, model.tokens.weight
        self.model = model
        self.cache = KVCache(
            s.layers, s.key_value_heads, s.head_width, streams, capacity, weight.dtype, weight.device
        )

    def append(
        self, streams: Sequence[int], sequences: Sequence[DocumentSequence]
    ) -> Float[Tensor, "streams V"]:
        """Write each sequence at the end of its stream, clean; the logits behind its last position."""
        step = _Step(self, streams, sequences)
        hidden, _ = self.model.transform(step.batch, step.prepared, step.attend)
        self.cache.commit(streams, [len(s) for s in sequences])
        return self.model.logits(hidden[step.ends])

    def evaluate(self, streams: Sequence[int], sequences: Sequence[DocumentSequence]) -> Evaluate:
        """Predictions for one span at the end of each stream, of which nothing is kept.

        Streams come view by view, in each the B documents in one order; the whole documents first.
        """
        return _StreamsEvaluate(self, streams, sequences)


class _Step:
    """Some streams' next positions as one row, planned once; running it again overwrites the same slots."""

    def __init__(
        self, incremental: IncrementalModel, streams: Sequence[int], sequences: Sequence[DocumentSequence]
    ) -> None:
        self.model, self.cache = incremental.model, incremental.cache
        row = join(list(sequences))
        lengths = [len(s) for s in sequences]
        doc = np.repeat(streams, lengths)
        self.slots = self.cache.slots(streams, lengths)
        # Streams number their spans themselves: make the numbers unique in the cache.
        own = np.concatenate([s.columns["span"] for s in sequences])
        span = np.where(own == NONE, NONE, own * self.cache.streams + doc)
        columns = {**row.columns, "doc": doc, "idx": self.slots, "span": span}
        columns |= {name: np.full(len(doc), NONE) for name in self.cache.columns if name not in columns}
        self.cache.label(self.slots, columns)
        self.backend, self.plan = self.model.plan(columns, self.cache.columns)
        device = self.model.tokens.weight.device
        rope = self.model.settings.rope
        self.batch: Batch = collate(row, self.model.modalities, Key(0), rope, clean=True).to(device)
        self.prepared = self.model.prepare(self.batch)
        self.attend = [partial(self._attend, layer) for layer in range(self.model.settings.layers)]
        self.ends = torch.from_numpy(np.cumsum(lengths) - 1).to(device)

    def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.cache.write(layer, self.slots, k, v)
        return self.backend.attend(q, self.cache.keys(layer), self.cache.values(layer), self.plan)


class _StreamsEvaluate(Evaluate):
    """Steps are planned when they are first asked for: of all views, or of the first ones alone."""

    def __init__(
        self, incremental: IncrementalModel, streams: Sequence[int], sequences: Sequence[DocumentSequence]
    ) -> None:
        self.incremental, self.streams, self.sequences = incremental, streams, sequences
        self.modality = incremental.model.span_modalities[sequences[0].spans[0].modality]
        self.documents = len(streams) // (1 + len(self.modality.views))
        self.steps: dict[int, _Step] = {}

    def __call__(self, x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
        n = len(self.streams) if guided else self.documents
        if n not in self.steps:
            self.steps[n] = _Step(self.incremental, self.streams[:n], self.sequences[:n])
        step, views = self.steps[n], n // self.documents
        (group,) = step.batch.groups
        seam.asked(self.modality, x_t, t, group.x_t[: self.documents])
        group = replace(group, x_t=x_t.repeat(views, *[1] * (x_t.dim() - 1)), t=t.repeat(views))
        model, batch = self.incremental.model, replace(step.batch, groups=(group,))
        hidden, states = model.transform(batch, step.prepared, step.attend)
        return list(model.predict(hidden, group, states[0]).chunk(views))
