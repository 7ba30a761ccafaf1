"""Two plain modalities, small enough to check by eye, letters as tokens and blobs as spans; and an objective."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transfuse.documents import Document, Item
from transfuse.masks import NONE
from transfuse.modalities.loss import Loss
from transfuse.modalities.modality import Column, Evaluate, Report, Span, SpanModality, TokenModality
from transfuse.modalities.objective import SpanObjective, broadcast_like
from transfuse.sequences.layout import Layout
from transfuse.sequences.sequence import DocumentSequence
from transfuse.sequences.vocabulary import vocabulary_for


class Letters(TokenModality):
    """'abc' is the ids 0, 1, 2; arrays are ids already. ``predicts_markers``: it predicts begin markers."""

    def __init__(self, name: str = "letters", codes: int = 8, predicts_markers: bool = True) -> None:
        super().__init__(name)
        self._codes, self.predicts_markers = codes, predicts_markers  # type: ignore[misc]

    @property
    def codes(self) -> int:
        return self._codes

    def fit(self, raws: Iterable[Any], seed: int, report: Report, effort: float = 1.0) -> None: ...

    def facts(self) -> dict[str, Any]:
        return {}

    def restore(self, facts: dict[str, Any]) -> None: ...

    def connect(self, dim: int) -> None: ...

    def encode(self, raw: Any) -> np.ndarray:
        return raw if isinstance(raw, np.ndarray) else np.array([ord(c) - ord("a") for c in raw], np.int64)

    def decode(self, payload: np.ndarray) -> str:
        return "".join(chr(ord("a") + int(i)) for i in payload)

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        return [Span(payload, len(payload), grouped=False, loss=item.loss)]

    def objective(self, logits: Tensor, targets: Tensor) -> Loss:
        return Loss(F.cross_entropy(logits, targets, reduction="sum"), float(len(targets)))

    def choose(self, logits: Tensor, generator: torch.Generator, left: float) -> int:
        return int(logits[0].argmax())


class Blob(SpanModality):
    """n numbers as n positions, noised by adding t ~ U(0, 1) of noise; it predicts the clean numbers.

    inside: its markers share its span. extra: columns it declares; each counts its positions.
    """

    clean_time = 0.0

    def __init__(
        self,
        name: str = "blob",
        sizes: tuple[int, ...] = (2, 3),
        inside: bool = False,
        extra: Mapping[str, Column] = {},
    ) -> None:
        super().__init__(name)
        self.sizes, self.inside, self.extra = sizes, inside, dict(extra)

    def fit(self, raws: Iterable[Any], seed: int, report: Report, effort: float = 1.0) -> None: ...

    def facts(self) -> dict[str, Any]:
        return {}

    def restore(self, facts: dict[str, Any]) -> None: ...

    def connect(self, dim: int) -> None:
        self.into, self.time, self.out = nn.Linear(1, dim), nn.Linear(1, dim), nn.Linear(dim, 1)

    def encode(self, raw: Any) -> np.ndarray:
        return np.asarray(raw, np.float32)

    def decode(self, payload: np.ndarray) -> list[float]:
        return payload.tolist()

    def columns(self) -> dict[str, Column]:
        return self.extra

    def labels(self) -> tuple[str, ...]:
        return tuple(str(n) for n in self.sizes)

    def blank(self, label: str) -> np.ndarray:
        return np.zeros(int(label), np.float32)

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        n = len(payload)
        extra = {name: np.arange(n + 2) for name in self.extra}
        return [
            Span(
                payload,
                n,
                str(n),
                self.inside,
                noised=item.noised,
                loss=item.loss and item.noised,
                columns=extra,
            )
        ]

    def corrupt(
        self, clean: Tensor, generators: list[torch.Generator], is_context: list[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        t = torch.stack(
            [
                torch.rand((), generator=g) * (0.5 if context else 1)
                for g, context in zip(generators, is_context, strict=True)
            ]
        )
        noise = torch.stack([torch.randn(clean.shape[1:], generator=g) for g in generators])
        return clean + t[:, None] * noise, t, clean

    def embed(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Any]:
        return self.into(x_t[..., None]) + self.time(t[:, None])[:, None], None

    def head(self, hidden: Tensor, state: Any, t: Tensor) -> Tensor:
        return self.out(hidden)[..., 0]

    def objective(self, prediction: Tensor, target: Tensor, t: Tensor) -> Loss:
        return Loss((prediction - target).square().mean(dim=1).sum(), float(len(target)))

    def sample(self, evaluate: Evaluate, label: str, generators: list[torch.Generator]) -> Tensor:
        x = torch.stack([torch.randn(int(label), generator=g) for g in generators])
        for time in (1.0, 0.5):
            x = evaluate(x, torch.full((len(x),), time))[0]
        return x


class StraightPath(SpanObjective):
    """x_t = (1 - t)·x0 + t·ε; it predicts ε - x0, scored by its square (rectified flow, arXiv 2209.03003)."""

    clean_time = 0.0

    def draw_time(self, generator: torch.Generator, is_context: bool) -> float:
        return float(torch.rand((), generator=generator)) * (0.5 if is_context else 1)

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t.double(), t.double()

    def share(self, t: Tensor) -> Tensor:
        return t.double()

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return eps - x0

    def score(self, prediction: Tensor, target: Tensor, t: Tensor) -> Loss:
        return Loss((prediction - target).square().flatten(1).mean(dim=1).sum(), float(len(target)))

    def estimate(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        return x_t - broadcast_like(t, x_t) * prediction

    def times(self, evaluations: int) -> Tensor:
        return torch.linspace(1, 0, evaluations + 1, dtype=torch.float64)[:-1]


def layout(*modalities: TokenModality | SpanModality) -> Layout:
    """A layout of these modalities, by default letters and blobs."""
    named = {m.name: m for m in modalities or (Letters(), Blob())}
    return Layout(named, vocabulary_for(named))


def document(*items: Item | str | list[float], id: int = 0, source: str = "test 0") -> Document:
    """Strings become items of letters, lists items of blobs."""

    def item(given: Item | str | list[float]) -> Item:
        if isinstance(given, Item):
            return given
        return Item("letters" if isinstance(given, str) else "blob", given)

    return Document(tuple(item(given) for given in items), id, source)


def show(sequence: DocumentSequence, lay: Layout) -> str:
    """A document as lines: tokens by name (``~`` where a span's vectors stand), targets, scored, columns."""
    names, none = lay.names, NONE

    def word(id: int) -> str:
        if id == none:
            return "~"
        name = lay.vocabulary.name(id)
        return chr(ord("a") + int(name[8:-1])) if name.startswith("letters[") else name

    rows: dict[str, list[str]] = {
        "token": [word(int(t)) for t in sequence.tokens],
        "target": ["." if t == none else word(int(t)) for t in sequence.targets],
        "scored": ["." if s == none else names[s] for s in sequence.scored],
    }
    for name in sorted(sequence.columns):
        rows[name] = ["." if v == none else str(v) for v in sequence.columns[name]]
    widths = [max(len(row[i]) for row in rows.values()) for i in range(len(sequence))]
    return "\n".join(
        f"{name:8}" + " ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for name, row in rows.items()
    )
