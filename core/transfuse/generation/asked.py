"""What a call asks of all its prompts: in which views they are continued, so many at a time, and by which ids."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.documents import Document, Item, View
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.generation.config import GenerationConfig
from transfuse.generation.prompts import LaidPrompt
from transfuse.modalities import seam
from transfuse.modalities.guidance import all_views, check_views
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.layout import DocumentCursor
from transfuse.sequences.vocabulary import END, begin_marker

WHOLE = View(frozenset())
"""The view that drops nothing."""
NEVER, TEXT, BEGIN, STOP = range(4)
"""What an id of the vocabulary is to a document in text: no choice, one more token, a begin marker, the end."""


@dataclass(eq=False)
class Continued:
    """One document being continued; where each of its views goes on, and the logits at the end of view 0."""

    index: int
    document: Document
    cursors: list[DocumentCursor]
    logits: Float[Tensor, " V"]
    prompt_items: int
    tokens: int = 0  # of text in items so far
    ids: list[int] = field(default_factory=list)  # text not yet closed into an item
    begun: tuple[str, str] | None = None  # (modality, label) of an item whose begin marker was chosen
    done: bool = False

    @property
    def items(self) -> int:
        """Items made so far."""
        return len(self.document.items) - self.prompt_items


class Asked:
    """What is asked of all prompts: which views there are, and which ids may be chosen."""

    def __init__(self, model: Model, config: GenerationConfig) -> None:
        self.model, self.layout, self.config, self.key = model, model.layout, config, Key(config.seed)
        modalities, want, vocabulary = model.modalities, config.want, model.vocabulary
        self.writer = self.layout.marker_modality  # who writes text
        if want is not None and want not in modalities:
            raise TransfuseError(f"this model has no modality {want!r}; {did_you_mean(want, modalities)}")
        if want is None and self.writer is None:
            raise TransfuseError(
                f"no modality of this model predicts what comes next: ask for one, want= {' or '.join(modalities)}"
            )
        labels = seam.call(modalities[want], "labels") if want is not None else ()
        if want is not None and want != self.writer and not labels:
            raise TransfuseError(f"modality {want!r} has no begin marker, so it cannot be asked for")
        if config.label not in (None, *labels):
            raise TransfuseError(
                f"modality {want!r} has no shape {config.label!r}; {did_you_mean(config.label or '', labels)}"
            )
        check_views(modalities)
        wanted = {name: m for name, m in modalities.items() if want in (None, name)}
        self.views = (WHOLE, *all_views(wanted))
        self.begins = {  # by the id of a begin marker
            vocabulary.marker(begin_marker(name, label)): (name, label)
            for name, modality in wanted.items()
            for label in seam.call(modality, "labels")
            if config.label in (None, label)
        }
        self.open_ended = want is None or not self.begins
        kinds = np.full(vocabulary.size, NEVER)
        kinds[list(self.begins)] = BEGIN
        if self.open_ended:
            kinds[vocabulary.marker(END)] = STOP
            if self.writer is not None:
                r = vocabulary.range(self.writer)
                kinds[r.start : r.stop] = TEXT
        elif self.writer is not None and not model.predictable[list(self.begins)].any():
            raise TransfuseError(
                f"the model was never trained to begin {want!r}; train it on documents that hold some"
            )
        self.kinds, self.kind_of = kinds, torch.from_numpy(kinds).to(model.tokens.weight.device)

    def chunks(
        self, prompts: Iterable[tuple[Document, int]]
    ) -> Iterator[tuple[list[tuple[LaidPrompt, int]], int]]:
        """The prompts, each object laid out once, as many at a time as the cache may hold; its capacity a stream."""
        room = self.config.tokens * self.open_ended
        if self.begins:
            longest = max(sum(s.positions for s in self.blank(*begun)[1]) for begun in self.begins.values())
            room += longest * (1 if self.config.want else self.config.items)
        laid: dict[int, LaidPrompt] = {}
        chunk: list[tuple[LaidPrompt, int]] = []
        capacity = 0
        for document, index in prompts:
            prompt = laid.get(id(document)) or LaidPrompt.of(document, self.layout, self.views)
            wider = max(capacity, len(prompt) + room)
            if chunk and (len(chunk) + 1) * len(self.views) * wider > self.config.budget:
                yield chunk, capacity
                laid, chunk, wider = {}, [], len(prompt) + room
            laid[id(document)], capacity = prompt, wider
            chunk.append((prompt, index))
        yield chunk, capacity

    def blank(self, name: str, label: str) -> tuple[np.ndarray, list]:
        """An item of this shape before anything is known of it, as it is laid out for sampling."""
        modality = self.model.modalities[name]
        payload = seam.payload(modality, "blank", label)
        return payload, seam.spans(modality, Item(name, None), payload)

    def next_ids(self, documents: Sequence[Continued], logits: Float[Tensor, "B V"]) -> Int[np.ndarray, " B"]:
        """The next id of documents in text that have written equally much of it, from what is allowed there."""
        if not self.open_ended and self.writer is None:
            return np.full(len(documents), self._only_begin())
        said = len(documents[0].ids)
        left = np.array([self.config.tokens - one.tokens - said for one in documents])
        more = np.array([one.items + (said > 0) < self.config.items for one in documents])
        may = np.zeros((len(documents), 4), bool)
        may[:, TEXT] = (left > 0) & (more | (said > 0))
        may[:, BEGIN] = more | (not self.open_ended)
        may[:, STOP] = self.config.want is None or said > 0
        allowed = torch.from_numpy(may).to(logits.device)[:, self.kind_of]
        logits = logits.masked_fill(~allowed, -torch.inf)
        writer = self.model.token_modalities.get(self.writer or "")
        if self.config.greedy or writer is None or not self.open_ended:
            return logits.argmax(dim=1).cpu().numpy()
        keys = [self.key.generator("text", one.index, len(one.document.items), said) for one in documents]
        return seam.choose_each(writer, logits[:, None], keys, 1.0)

    def _only_begin(self) -> int:
        """The begin marker of a model in which nothing predicts any."""
        if len(self.begins) > 1:
            labels = ", ".join(label for _, label in self.begins.values())
            raise TransfuseError(
                f"no modality of this model predicts which of its shapes {self.config.want!r} has ({labels}): say it, "
                f"label= or --want {self.config.want}:LABEL"
            )
        return next(iter(self.begins))
