"""Series of a few lengths: four values are a position, and a whole series is predicted at once.

Letters: ``B`` series of one length ``L``, ``n = L / 4`` positions, ``D`` model width.
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn
from transfuse.plugin import (
    Chosen,
    GuidanceSettings,
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

PATCH = 4  # values a position


class SeriesSettings(Settings):
    """How series are diffused."""

    fit_by = ()
    sampled_by = ("sampler", "guidance")

    objective: Annotated[Chosen[SpanObjective], PartOf("objective")] = Field(
        default={"name": "flow"}, validate_default=True
    )
    """What is predicted of a noised series."""
    sampler: Annotated[Chosen[Sampler], PartOf("sampler")] = Field(
        default={"name": "euler", "evaluations": 20}, validate_default=True
    )
    """How series are drawn."""
    guidance: GuidanceSettings = GuidanceSettings(scale=2)
    """Of what is drawn."""


class Series(SpanModality):
    def __init__(self, settings: SeriesSettings, name: str) -> None:
        super().__init__(name)
        self.guidance = settings.guidance
        self.views = settings.guidance.views_dropped
        self.diffusion, self.sampler = settings.objective.build(), settings.sampler.build()
        self.clean_time = self.diffusion.clean_time
        self.lengths: list[int] = []

    def fit(self, raws, seed, report, effort=1.0):
        self.lengths = sorted({len(raw) for raw in raws})
        for length in self.lengths:
            if length % PATCH:
                raise TransfuseError(f"a series of {length} values does not divide into positions of {PATCH}")
        report(f"{self.name}: lengths {', '.join(map(str, self.lengths))}")

    def facts(self):
        return {"lengths": self.lengths}

    def restore(self, facts):
        self.lengths = facts["lengths"]

    def connect(self, dim):
        self.into, self.out = nn.Linear(PATCH, dim), nn.Linear(dim, PATCH)
        self.time = TimeEmbedding(dim)

    def encode(self, raw):
        series = np.asarray(raw, np.float32)
        if series.ndim != 1 or len(series) not in self.lengths:
            known = " or ".join(map(str, self.lengths))
            raise TransfuseError(f"a series has {known} values, not shape {series.shape}")
        return series

    def decode(self, payload):
        return payload

    def labels(self):
        return tuple(map(str, self.lengths))

    def blank(self, label):
        return np.zeros(int(label), np.float32)

    def spans(self, item, payload):
        n, label = len(payload) // PATCH, str(len(payload))
        return [Span(payload, n, label, noised=item.noised, loss=item.loss and item.noised)]

    def corrupt(self, clean, generators, is_context):
        return self.diffusion.corrupt(clean, generators, is_context)

    def embed(self, x_t, t):
        times = self.time(clock(self.noise_share(t)))
        return self.into(x_t.unflatten(1, (-1, PATCH))) + times[:, None], None

    def head(self, hidden, state, t):
        return self.out(hidden).flatten(1)

    def noise_share(self, t):
        return self.diffusion.share(t)

    def objective(self, prediction, target, t):
        return self.diffusion.score(prediction, target, t)

    def sample(self, evaluate, label, generators):
        noise = torch.stack([torch.randn(int(label), generator=g) for g in generators])
        denoise = self.guidance.denoiser(evaluate, self.noise_share)
        return self.sampler.sample(denoise, self.diffusion, noise.to(self.out.weight), generators, bound=1.5)
