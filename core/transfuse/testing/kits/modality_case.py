"""A modality under test: raw data that it takes, and what checks ask of it more than once: payloads, spans, a model."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transfuse import masks
from transfuse.config.recipe import ModelSettings
from transfuse.documents import Document, Item
from transfuse.masks import Mask
from transfuse.modalities import seam
from transfuse.modalities.loss import Loss
from transfuse.modalities.modality import Modality, Span, SpanModality
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import Batch, collate
from transfuse.sequences.layout import Layout
from transfuse.sequences.rows import Row, join
from transfuse.sequences.vocabulary import vocabulary_for
from transfuse.testing.kits.raw_case import RawDataCase
from transfuse.testing.kits.runner import LeftOut
from transfuse.testing.modalities import Letters

MASK = "same(doc) & (le(idx) | same(span))"
"""Where nobody names one: causal, and both ways within a span."""
AT_ONCE = 3
"""Spans of one shape in a batch."""
DRAWS = 8
"""So many times are drawn for each span where a law is to hold at every time."""


@dataclass(frozen=True)
class Noised:
    """B spans of one shape as a forward pass has them."""

    x_t: Tensor
    t: Tensor
    target: Tensor


class ModalityCase(RawDataCase):
    """A modality with raw data, and the mask and rotary columns of the recipe that it is for."""

    part: Modality

    def __init__(
        self,
        modality: Modality,
        raws: Iterable[Any],
        mask: Mask | str = MASK,
        rope: tuple[str, ...] = ("pos",),
        fit: bool = True,
    ) -> None:
        super().__init__(modality, raws, fit)
        self.mask = masks.parse(mask) if isinstance(mask, str) else mask
        self.rope = rope

    @property
    def modality(self) -> Modality:
        """It, fit, and not connected to a model."""
        return self.fitted

    @property
    def name(self) -> str:
        return self.part.name

    def item(self, raw: Any = None, **flags: bool) -> Item:
        return Item(self.name, raw, **flags)

    def spans(self, payload: np.ndarray, **flags: bool) -> list[Span]:
        return seam.spans(self.modality, self.item(**flags), payload)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        return tuple(seam.call(self.modality, "labels"))

    # -- the spans of one shape

    @cached_property
    def alike(self) -> list[Span]:
        """The predicted spans of a few raw data of one shape."""
        found: dict[Any, list[Span]] = {}
        for payload in self.payloads:
            for span in (span for span in self.spans(payload) if span.loss and span.noised):
                found.setdefault((span.payload.shape, span.length, span.copy), []).append(span)
        if not found:
            raise LeftOut("none of its spans is noised and predicted")
        most = max(found.values(), key=len)
        return (most * AT_ONCE)[:AT_ONCE]

    @property
    def clean(self) -> Tensor:
        """Their payloads [B, ...]."""
        return torch.from_numpy(np.stack([span.payload for span in self.alike]))

    def noised(self, first: int = 0, clean: Tensor | None = None, context: Sequence[bool] = ()) -> Noised:
        """Them, corrupted by generators of the seeds from ``first`` on; none of them is context, by default."""
        clean = self.clean if clean is None else clean
        flags = list(context) or [False] * len(clean)
        return Noised(*seam.corrupt(self.connected, clean, seeds(len(clean), first), flags))

    # -- in a model

    @cached_property
    def connected(self) -> SpanModality:
        """The modality of `model`."""
        found = self.model.modalities[self.name]
        assert isinstance(found, SpanModality)
        return found

    def embed(self, spans: Noised) -> tuple[Tensor, Any]:
        copy, n, width = self.alike[0].copy, self.alike[0].length, self.model.settings.dim
        return seam.embed(self.connected, spans.x_t, spans.t, copy, n, width)

    def head(self, hidden: Tensor, state: Any, spans: Noised) -> Tensor:
        return seam.head(self.connected, hidden, state, spans.t, self.alike[0].copy)

    def one(self, spans: Noised, i: int) -> Noised:
        """Span i of them, alone."""
        return Noised(*(x[i : i + 1] for x in (spans.x_t, spans.t, spans.target)))

    def predict(self, spans: Noised) -> Tensor:
        """Its own layers alone: a transformer that does nothing."""
        return self.head(*self.embed(spans), spans)

    def score(self, prediction: Tensor, spans: Noised) -> Loss:
        return seam.score(self.connected, prediction, spans.target, spans.t, copy=self.alike[0].copy)

    @cached_property
    def model(self) -> Model:
        """A small model of it and of letters, its weights moved a little: layers may begin at zero."""
        model = self.new_model()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.trained():
                weight += 0.05 * torch.randn(weight.shape, generator=generator)
        model.predictable[:] = True
        return model.eval()

    def new_model(self, seed: int = 0, modality: Modality | None = None) -> Model:
        """One as it is first drawn, of a copy of it or of another that is fit."""
        modality = deepcopy(self.modality) if modality is None else modality
        modalities: Mapping[str, Modality] = {self.name: modality}
        if not modality.predicts_markers:
            modalities = {self.other: Letters(self.other), **modalities}
        settings = ModelSettings(dim=48, layers=1, heads=2, head_dim=24, rope=self.rope)
        vocabulary = vocabulary_for(modalities)
        known = self.mask.columns <= Layout(modalities, vocabulary).columns.keys()
        return Model(settings, modalities, vocabulary, self.mask if known else masks.parse(MASK), seed=seed)

    @property
    def other(self) -> str:
        return "letters" if self.name != "letters" else "words"

    @property
    def layout(self) -> Layout:
        modalities = {self.name: self.modality}
        return Layout(modalities, vocabulary_for(modalities))

    def documents(self) -> list[Document]:
        """A word and an item, then an item and a word, and so on; an item alone where it goes with no other."""
        found = []
        for i, raw in enumerate(self.raws):
            items = [self.item(raw)]
            if not self.modality.predicts_markers:
                items = [Item(self.other, "abc"[i % 3 :], droppable=True), *items][:: 1 if i % 2 == 0 else -1]
            found.append(Document(tuple(items), id=i, source=f"the kit's document {i}"))
        return found

    def row(self, documents: list[Document] | None = None, model: Model | None = None) -> Row:
        layout = (model or self.model).layout
        return join([layout.sequence(document) for document in documents or self.documents()[:4]])

    def batch(self, row: Row | None = None, model: Model | None = None) -> Batch:
        model = model or self.model
        return collate(row or self.row(model=model), model.modalities, Key(0), self.rope)

    def loss(self, model: Model, batch: Batch) -> Tensor:
        """The mean of its own loss over a batch."""
        found = model.losses(batch)
        if self.name not in found:
            raise LeftOut("it has no loss in a document of its own")
        return found[self.name].sum / found[self.name].count


def seeds(n: int, first: int = 0) -> list[torch.Generator]:
    """n generators of consecutive seeds."""
    return [torch.Generator().manual_seed(1000 + first + i) for i in range(n)]
