"""The model over a cache: a stream for each view of each document, which grows and attends to what it holds.

Documents stand in rows, the same for all views: a call takes the first rows of some views, view by view, all
documents of a view at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.attention.kv_cache import KVCache
from transfuse.generation.prompts import PackedPrompts
from transfuse.masks import NONE
from transfuse.modalities import seam
from transfuse.modalities.modality import Evaluate
from transfuse.model.backbone import Attend
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.rows import Row, join
from transfuse.sequences.sequence import DocumentSequence


class IncrementalModel:
    """A model and the keys and values of documents in views, of at most ``capacity`` positions each."""

    def __init__(self, model: Model, documents: int, capacity: int, views: int = 1) -> None:
        s, self.model, self.documents, streams = model.settings, model, documents, views * documents
        self.device = model.tokens.weight.device
        self.cache = KVCache(
            model.mask, s.layers, s.key_value_heads, s.head_width, streams, capacity, model.compute_dtype, self.device
        )  # fmt: skip

    def prefill(self, prompts: PackedPrompts) -> Float[Tensor, "documents V"]:
        """Prompts written into empty streams, each computed once; the logits behind the last of view 0."""
        model, cache, row = self.model, self.cache, prompts.row
        streams = prompts.view * self.documents + prompts.document
        cache.label(streams, prompts.place, {c: values[prompts.source] for c, values in row.columns.items()})
        np.maximum.at(cache.length, streams, prompts.place + 1)
        backend, plan = model.plan(row.columns, row.columns, prompts.rule)
        source, slots = torch.from_numpy(prompts.source).to(self.device), cache.slots(streams, prompts.place)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            cache.write(layer, slots, k[:, source], v[:, source])
            return backend.attend(q, k, v, plan)

        batch = self.batch(row)
        hidden, _ = model.transform(batch, model.prepare(batch), self.layers(attend))
        return self.logits(hidden, prompts.last)

    def append(
        self, views: Sequence[int], sequences: Sequence[DocumentSequence]
    ) -> Float[Tensor, "sequences V"]:
        """Write sequences at the end of streams, clean, one length a view; the logits behind the last of each."""
        step = _Step.of(self, views, sequences)
        hidden, _ = step.run(step.batch)
        self.cache.commit(step.plan)
        return self.logits(hidden, np.cumsum([len(s) for s in sequences]) - 1)

    def evaluate(self, views: Sequence[int], sequences: Sequence[DocumentSequence]) -> Evaluate:
        """Predictions for one span at the end of each stream, of which nothing is kept; view 0 comes first."""
        return _Evaluate(self, views, sequences)

    def swap(self, a: Sequence[int], b: Sequence[int]) -> None:
        """Exchange documents' rows, in all views."""
        firsts = range(0, len(self.cache.length), self.documents)
        self.cache.swap(*([first + row for first in firsts for row in rows] for rows in (a, b)))

    def batch(self, row: Row) -> Batch:
        """A row in which nothing is corrupted."""
        return collate(row, self.model.modalities, Key(0), self.model.settings.rope, clean=True).to(
            self.device
        )

    def layers(self, attend: Callable[..., Tensor]) -> list[Attend]:
        """An ``attend`` whose first argument is the layer, for each of them."""
        return [partial(attend, layer) for layer in range(self.model.settings.layers)]

    def logits(self, hidden: Tensor, positions: np.ndarray) -> Float[Tensor, "positions V"]:
        return self.model.logits(hidden[torch.from_numpy(positions).to(self.device)])


class _Step:
    """The next positions of some streams, planned once; running it again overwrites the same slots.

    columns: the batch's, but for spans, which are numbered by their document: no number changes from step to step.
    """

    def __init__(
        self, incremental: IncrementalModel, views: Sequence[int], many: int, lengths: Sequence[int], batch: Batch,
        columns: Mapping[str, np.ndarray],
    ) -> None:  # fmt: skip
        self.model, self.batch = incremental.model, batch
        blocks = [(view * incremental.documents, many, n) for view, n in zip(views, lengths, strict=True)]
        self.plan = incremental.cache.plan(blocks, columns)
        self.attend = incremental.layers(lambda layer, *qkv: incremental.cache.attend(layer, self.plan, *qkv))
        self.prepared = self.model.prepare(batch)

    @classmethod
    def of(
        cls, incremental: IncrementalModel, views: Sequence[int], sequences: Sequence[DocumentSequence]
    ) -> "_Step":
        """Of sequences view by view, one length a view."""
        many, batch = len(sequences) // len(views), incremental.batch(join(list(sequences)))
        columns = {**batch.columns, "span": np.concatenate([s.columns["span"] for s in sequences])}
        return cls(incremental, views, many, [len(s) for s in sequences[::many]], batch, columns)

    def run(self, batch: Batch) -> tuple[Float[Tensor, "T D"], list]:
        return self.model.transform(batch, self.prepared, self.attend)


class InTurn:
    """Sequences of ids, all of one length, view by view, written one position after another in all streams at once."""

    def __init__(
        self, incremental: IncrementalModel, views: Sequence[int], sequences: Sequence[DocumentSequence]
    ) -> None:
        self.incremental, self.views, self.at = incremental, views, 0
        self.columns = {name: np.stack([s.columns[name] for s in sequences]) for name in sequences[0].columns}

    def append(self, ids: Int[np.ndarray, " streams"]) -> Float[Tensor, "streams V"]:
        """The next position of each stream is this id; the logits behind it."""
        incremental, model, streams = self.incremental, self.incremental.model, np.arange(len(ids))
        own = {name: values[:, self.at] for name, values in self.columns.items()}
        span = np.where(own["span"] == NONE, NONE, streams)
        columns = {**own, "span": span, "doc": streams, "sample": streams, "idx": streams}
        positions = torch.from_numpy(np.stack([columns[axis] for axis in model.settings.rope], axis=1))
        none, many = np.zeros(0, np.int64), len(ids) // len(self.views)
        nothing = torch.from_numpy(none)
        batch = Batch(columns, torch.from_numpy(ids), positions, nothing, nothing, none, (), {})
        batch = batch.to(incremental.device)
        step = _Step(incremental, self.views, many, [1] * len(self.views), batch, own)
        hidden, _ = step.run(batch)
        incremental.cache.commit(step.plan)
        self.at += 1
        return model.logits(hidden)

    def keep(self, rows: Sequence[int]) -> None:
        """Of each view's documents these alone are left, in this order, as they are in the cache."""
        for name, values in self.columns.items():
            n = values.shape[1]
            self.columns[name] = values.reshape(len(self.views), -1, n)[:, rows].reshape(-1, n)


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
            self.steps[views] = _Step.of(self.incremental, self.views[:views], some)
        step, model = self.steps[views], self.incremental.model
        (group,) = step.batch.groups
        seam.asked(self.modality, x_t, t, group.x_t[: self.documents])
        group = replace(group, x_t=x_t.repeat(views, *[1] * (x_t.dim() - 1)), t=t.repeat(views))
        hidden, states = step.run(replace(step.batch, groups=(group,)))
        return list(model.predict(hidden, group, states[0]).chunk(views))
