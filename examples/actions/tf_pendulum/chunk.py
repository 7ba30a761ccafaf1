"""Chunks of actions, and the state they are given, as modalities: a step is a position (after π0, arXiv 2410.24164).

Letters: ``B`` chunks of ``n`` steps of ``d`` numbers, ``D`` model width.
"""

from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn
from transfuse.plugin import (
    Chosen,
    Column,
    PartOf,
    Sampler,
    Settings,
    Span,
    SpanModality,
    SpanObjective,
    TimeEmbedding,
    TransfuseError,
    clock,
)


class ChunkSettings(Settings):
    """How chunks are diffused and drawn."""

    fit_by = ()
    sampled_by = ("sampler",)

    objective: Annotated[Chosen[SpanObjective], PartOf("objective")] = Field(
        default={"name": "flow", "time": "beta"}, validate_default=True
    )
    """What is predicted of a noised chunk; times are drawn as in π0, more often near noise."""
    sampler: Annotated[Chosen[Sampler], PartOf("sampler")] = Field(
        default={"name": "euler", "evaluations": 10}, validate_default=True
    )
    """How chunks are drawn."""


class Actions(SpanModality):
    """Raw data are float32 ``[n, d]``, diffused as multiples of their spread over the training split."""

    rank: ClassVar[int] = 1

    def __init__(self, settings: ChunkSettings, name: str) -> None:
        super().__init__(name)
        self.diffusion, self.sampler = settings.objective.build(), settings.sampler.build()
        self.clean_time = self.diffusion.clean_time
        self.steps: list[int] = []
        self.mean, self.std = np.zeros(0, np.float32), np.zeros(0, np.float32)

    # -- what is learnt of the data before the model

    def fit(self, raws, seed, report, effort=1.0):
        kept = [np.asarray(raw, np.float32) for raw in raws]
        self.steps = sorted({len(raw) for raw in kept})
        whole = np.concatenate(kept)
        self.mean, self.std = whole.mean(0), whole.std(0) + 1e-3

    def facts(self):
        return {"steps": self.steps, "mean": self.mean.tolist(), "std": self.std.tolist()}

    def restore(self, facts):
        self.steps = facts["steps"]
        self.mean, self.std = (np.array(facts[key], np.float32) for key in ("mean", "std"))

    # -- raw data to payloads, and how they are laid out

    def encode(self, raw):
        chunk = np.array(raw, np.float32)
        if chunk.shape not in [(n, len(self.mean)) for n in self.steps]:
            raise TransfuseError(
                f"{self.name} has {self.steps} steps of {len(self.mean)} numbers, not {chunk.shape}"
            )
        return (chunk - self.mean) / self.std

    def decode(self, payload):
        return payload * self.std + self.mean

    def labels(self):
        return tuple(map(str, self.steps))

    def blank(self, label):
        return np.zeros((int(label), len(self.mean)), np.float32)

    def columns(self):
        return {"rank": Column.ID}

    def spans(self, item, payload):
        n, noised = len(payload), item.noised
        rank = np.full(n + 2, self.rank)  # with the markers
        return [Span(payload, n, str(n), noised=noised, loss=item.loss and noised, columns={"rank": rank})]

    # -- in the model

    def connect(self, dim):
        self.into, self.out = nn.Linear(len(self.mean), dim), nn.Linear(dim, len(self.mean))
        self.time = TimeEmbedding(dim)

    def corrupt(self, clean, generators, is_context):
        return self.diffusion.corrupt(clean, generators, is_context)

    def noise_share(self, t):
        return self.diffusion.share(t)

    def embed(self, x_t, t):
        return self.into(x_t) + self.time(clock(self.noise_share(t)))[:, None], None  # [B, n, D]

    def head(self, hidden, state, t):
        return self.out(hidden)

    def objective(self, prediction, target, t):
        return self.diffusion.score(prediction, target, t)

    def sample(self, evaluate, label, generators):
        noise = torch.stack([torch.randn(self.blank(label).shape, generator=g) for g in generators])
        denoise = lambda x_t, t: evaluate(x_t, t.float(), guided=False)[0]  # noqa: E731
        return self.sampler.sample(denoise, self.diffusion, noise.to(self.into.weight), generators, bound=4.0)


class State(Actions):
    """What is sensed: one step, given and never predicted, so that its head has no weights of its own."""

    rank = 0

    def connect(self, dim):
        self.into, self.time = nn.Linear(len(self.mean), dim), TimeEmbedding(dim)

    def head(self, hidden, state, t):
        return hidden @ self.into.weight
