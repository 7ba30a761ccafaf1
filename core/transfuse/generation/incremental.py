"""The model over a cache: streams of positions that grow, each attending to what it holds already."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.attention import Backend, Plan, Request, select
from transfuse.attention.kv_cache import KVCache
from transfuse.masks import NONE
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
        hidden, _ = step.run(step.batch)
        self.cache.commit(streams, [len(s) for s in sequences])
        return self.model.logits(hidden[step.ends])

    def evaluate(self, streams: Sequence[int], sequences: Sequence[DocumentSequence]) -> Evaluate:
        """Predictions for one span at the end of each stream, of which nothing is kept.

        Streams come view by view, in each the B documents in one order; the whole documents first.
        """
        return _StreamsEvaluate(self, streams, sequences)

    def plan(self, columns: Mapping[str, np.ndarray]) -> tuple[Backend, Plan]:
        """The backend, and its plan for queries of these columns over the cache.

        The model's own where it can serve a cache, else the best that can.
        """
        s, keys = self.model.settings, self.cache.keys(0)
        request = Request(
            keys.device, keys.dtype, s.heads, s.key_value_heads, s.head_width,
            len(columns["doc"]), len(self.cache.columns["doc"]), False,
        )  # fmt: skip
        own = self.model.backends.get(self.model.attention)
        name = self.model.attention if own is not None and not own.supports(request) else "auto"
        backend = select(name, request, self.model.backends)
        return backend, backend.plan(self.model.mask, columns, self.cache.columns, request)


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
        self.backend, self.plan = incremental.plan(columns)
        device = self.model.tokens.weight.device
        rope = self.model.settings.rope
        self.batch: Batch = collate(row, self.model.modalities, Key(0), rope, clean=True).to(device)
        self.prepared = self.model.prepare(self.batch)
        self.attend = [partial(self._attend, layer) for layer in range(self.model.settings.layers)]
        self.ends = torch.from_numpy(np.cumsum(lengths) - 1).to(device)

    def run(self, batch: Batch) -> tuple[Float[Tensor, "T D"], list[Any]]:
        """The transformer's output for this row, or one with other values in its spans; and the states."""
        return self.model.transform(batch, self.prepared, self.attend)

    def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.cache.write(layer, self.slots, k, v)
        return self.backend.attend(q, self.cache.keys(layer), self.cache.values(layer), self.plan)


class _StreamsEvaluate(Evaluate):
    """Steps are planned when they are first asked for: of all views, or of the first ones alone."""

    def __init__(
        self, incremental: IncrementalModel, streams: Sequence[int], sequences: Sequence[DocumentSequence]
    ) -> None:
        self.incremental, self.streams, self.sequences = incremental, streams, sequences
        self.steps: dict[int, _Step] = {}

    def __call__(self, x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
        n = len(self.streams) if guided else len(x_t)
        if n not in self.steps:
            self.steps[n] = _Step(self.incremental, self.streams[:n], self.sequences[:n])
        step, views = self.steps[n], n // len(x_t)
        (group,) = step.batch.groups
        group = replace(group, x_t=x_t.repeat(views, *[1] * (x_t.dim() - 1)), t=t.repeat(views))
        hidden, states = step.run(replace(step.batch, groups=(group,)))
        return list(self.incremental.model.predict(hidden, group, states[0]).chunk(views))
