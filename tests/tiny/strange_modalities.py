"""Deliberately strange modalities that strain the interface, one that follows a script, and a sampler that listens."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transfuse.documents import Item
from transfuse.modalities.loss import Loss
from transfuse.modalities.modality import Evaluate, Span
from transfuse.testing.modalities import Blob, Letters


class Skip(Blob):
    """4 numbers as one position: the transformer is shown their mean alone, the head also gets them all.

    What only the encoder saw reaches the head by ``state``, as in a U-Net.
    """

    def connect(self, dim: int) -> None:
        self.into, self.time = nn.Linear(1, dim), nn.Linear(1, dim)
        self.detail, self.out = nn.Linear(4, 16), nn.Linear(dim + 16, 4)

    def labels(self) -> tuple[str, ...]:
        return ("4",)

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        return [Span(payload, 1, "4", noised=item.noised, loss=item.loss and item.noised)]

    def embed(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Any]:
        seen = self.into(x_t.mean(dim=1, keepdim=True)) + self.time(t[:, None])
        return seen[:, None], F.silu(self.detail(x_t))

    def head(self, hidden: Tensor, state: Any, t: Tensor) -> Tensor:
        return self.out(torch.cat([hidden[:, 0], state], dim=1))


class Twins(Blob):
    """A noised copy that is predicted and a clean one that later positions see, at the same rotary positions.

    Markers are inside, as in BAGEL; its mask is BAGEL's.
    """

    def __init__(self, name: str = "blob", sizes: tuple[int, ...] = (2, 3)) -> None:
        super().__init__(name, sizes, inside=True)

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        n = len(payload)
        clean = Span(payload, n, str(n), inside=True, loss=False)
        noised = Span(payload, n, str(n), inside=True, noised=True, loss=item.loss)
        return [noised, clean] if item.noised else [clean]

    def positions(self, span: Span, cursor: int) -> tuple[np.ndarray, int]:
        return np.full(span.positions, cursor), cursor + (0 if span.noised else 1)


class MaskedIds(Blob):
    """Ids of which some are masked; filled in one by one in several rounds: an outer and an inner loop."""

    clean_time = 0.0
    codes = 5
    does_not: Mapping[str, str] = {"draw": "it fills in the likeliest ids"}

    def connect(self, dim: int) -> None:
        self.table, self.out = nn.Embedding(self.codes + 1, dim), nn.Linear(dim, self.codes)

    def encode(self, raw: Any) -> np.ndarray:
        return np.asarray(raw, np.int64)

    def blank(self, label: str) -> np.ndarray:
        return np.zeros(int(label), np.int64)

    def corrupt(
        self, clean: Tensor, generators: list[torch.Generator], is_context: list[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        t = torch.stack([torch.rand((), generator=g) for g in generators])
        order = torch.stack([torch.rand(clean.shape[1:], generator=g).argsort() for g in generators])
        hidden = order < (1 + t * clean.shape[1])[:, None].floor()
        return clean.masked_fill(hidden, self.codes), t, clean.masked_fill(~hidden, -100)

    def embed(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Any]:
        return self.table(x_t), None

    def head(self, hidden: Tensor, state: Any, t: Tensor) -> Tensor:
        return self.out(hidden)

    def objective(self, prediction: Tensor, target: Tensor, t: Tensor) -> Loss:
        each = F.cross_entropy(prediction.mT, target, reduction="none")
        return Loss((each.sum(dim=1) / (target >= 0).sum(dim=1)).sum(), float(len(target)))

    def sample(self, evaluate: Evaluate, label: str, generators: list[torch.Generator]) -> Tensor:
        n = int(label)
        x = torch.full((len(generators), n), self.codes)
        for _ in range(2):  # rounds
            for j in range(n):  # each position is hidden and filled in from the others
                x[:, j] = self.codes
                hidden = (x == self.codes).float().mean(dim=1)
                x[:, j] = evaluate(x, hidden)[0].argmax(dim=-1)[:, j]
        return x


class Scripted(Letters):
    """Says the ids of its script, whatever the logits are, and keeps the logits."""

    def __init__(self, script: list[int]) -> None:
        super().__init__()
        self.script, self.heard = list(script), []

    def choose(self, logits: Tensor, generator: torch.Generator, left: float) -> int:
        self.heard.append(logits[0].clone())
        return self.script.pop(0)


class Probe:
    """A sampler for any Blob: asks for the prediction at one (x_t, t), keeps it, and returns a set answer."""

    def __init__(self, x_t: Tensor, t: Tensor, answer: Tensor) -> None:
        self.x_t, self.t, self.answer = x_t, t, answer
        self.seen: list[list[Tensor]] = []

    def __call__(self, evaluate: Evaluate, label: str, generators: list[torch.Generator]) -> Tensor:
        evaluate(torch.randn_like(self.x_t), torch.rand_like(self.t))  # overwritten by the next one
        self.seen.append([view.clone() for view in evaluate(self.x_t, self.t)])
        return self.answer
