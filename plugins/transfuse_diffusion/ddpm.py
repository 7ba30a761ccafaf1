"""DDPM: integer times 0 … T-1, noise growing with t (arXiv 2006.11239; paper, section 2.2)."""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from transfuse_diffusion.objective import Diffusion, DiffusionSettings
from transfuse_diffusion.targets import Target

Schedule = Literal["cosine", "linear"]


class DDPMSettings(DiffusionSettings):
    """The discrete schedule, and what is predicted and scored of it."""

    target: Target = "eps"
    schedule: Schedule = "cosine"
    """how ᾱ falls, see `alpha_bar`"""
    steps: int = Field(1000, ge=2, le=100_000)
    """T"""
    noise_limit: int | None = Field(500, ge=1)
    """times of spans that later items are predicted from are drawn below it (paper, section 4.3.4);
    null for none"""


def alpha_bar(schedule: Schedule, steps: int) -> Float[np.ndarray, " steps"]:
    """ᾱ_t in float64. Cosine: arXiv 2102.09672, eq. 17, with β capped at 0.999 so that ᾱ stays above 0."""
    if schedule == "linear":  # DDPM's, stretched to other T
        betas = np.linspace(0.1 / steps, min(20 / steps, 0.999), steps)
    else:
        curve = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = np.minimum(1 - curve[1:] / curve[:-1], 0.999)
    return np.cumprod(1 - betas)


class DDPM(Diffusion):
    """signal = √ᾱ_t, noise = √(1 - ᾱ_t) at whole t; t is drawn evenly."""

    settings: DDPMSettings

    def __init__(self, settings: DDPMSettings) -> None:
        super().__init__(settings)
        self.alpha_bar = torch.from_numpy(alpha_bar(settings.schedule, settings.steps))

    def draw_time(self, generator: torch.Generator, is_context: bool) -> float:
        limit = self.settings.noise_limit if is_context else None
        return float(
            torch.randint(min(limit or self.settings.steps, self.settings.steps), (), generator=generator)
        )

    def coefficients(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        kept = self.alpha_bar.to(t.device)[t.long()]
        return kept.sqrt(), (1 - kept).sqrt()

    def share(self, t: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """t / T: a time's place among the steps, not its amount of noise."""
        return t.double() / self.settings.steps

    def times(self, evaluations: int) -> Float[Tensor, " evaluations"]:
        """From T-1 down to 0, evenly spaced."""
        return torch.linspace(self.settings.steps - 1, 0, evaluations).round()
