"""DDPM: integer times 0 … T-1, noise growing with t (arXiv 2006.11239; paper, section 2.2)."""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transfuse.losses import Loss
from transfuse.objective import SpanObjective, spread
from transfuse.parts import Settings


class DDPMSettings(Settings):
    """target: what is predicted. steps: T. noise_limit: times of spans that others are predicted from
    are drawn below it (paper, section 4.3.4: 500); null for none."""

    target: Literal["eps", "v", "x0"] = "eps"
    schedule: Literal["cosine", "linear"] = "cosine"
    steps: int = Field(1000, ge=2, le=100_000)
    noise_limit: int | None = Field(500, ge=1)


def alpha_bar(schedule: Literal["cosine", "linear"], steps: int) -> Float[np.ndarray, " steps"]:
    """ᾱ_t in float64. Cosine: arXiv 2102.09672, eq. 17, with β capped at 0.999 so that ᾱ stays above 0."""
    if schedule == "linear":  # DDPM's, stretched to other T
        betas = np.linspace(0.1 / steps, min(20 / steps, 0.999), steps)
    else:
        curve = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = np.minimum(1 - curve[1:] / curve[:-1], 0.999)
    return np.cumprod(1 - betas)


class DDPM(SpanObjective):
    clean_time = 0.0

    def __init__(self, settings: DDPMSettings) -> None:
        self.settings = settings
        self.alpha_bar = torch.from_numpy(alpha_bar(settings.schedule, settings.steps))

    def draw_time(self, generator: torch.Generator, leads: bool) -> float:
        limit = self.settings.noise_limit if leads else None
        return float(
            torch.randint(min(limit or self.settings.steps, self.settings.steps), (), generator=generator)
        )

    def coefficients(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        kept = self.alpha_bar.to(t.device)[t.long()]
        return kept.sqrt(), (1 - kept).sqrt()

    def target(self, x0: Tensor, eps: Tensor, t: Float[Tensor, " B"]) -> Tensor:
        if self.settings.target == "eps":
            return eps
        if self.settings.target == "x0":
            return x0
        signal, noise = (spread(c, x0) for c in self.coefficients(t))
        return signal * eps - noise * x0

    def score(self, prediction: Tensor, target: Tensor, t: Float[Tensor, " B"]) -> Loss:
        """Mean squared error per span (paper, eq. 3)."""
        wide = torch.promote_types(prediction.dtype, torch.float32)
        error = (prediction.to(wide) - target.to(wide)).square().flatten(1).mean(dim=1)
        return Loss(error.sum(), float(len(error)))

    def estimate(self, x_t: Tensor, prediction: Tensor, t: Float[Tensor, " B"]) -> Tensor:
        if self.settings.target == "x0":
            return prediction
        signal, noise = (spread(c, x_t) for c in self.coefficients(t))
        if self.settings.target == "v":
            return signal * x_t - noise * prediction
        return (x_t - noise * prediction) / signal

    def times(self, evaluations: int) -> Float[Tensor, " evaluations"]:
        """From T-1 down to 0, evenly spaced."""
        return torch.linspace(self.settings.steps - 1, 0, evaluations).round()
