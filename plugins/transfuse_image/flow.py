"""Rectified flow: x_t = (1 - t)·x0 + t·ε on a straight path, t = 0 clean, t = 1 noise (arXiv 2209.03003)."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from transfuse_image.corruption import Corruption
from transfuse_image.diffusion import Diffusion
from transfuse_image.scores import ScoreSettings
from transfuse_image.targets import Target
from transfuse_image.times import TimeSettings, draw, shifted


class FlowSettings(TimeSettings, ScoreSettings):
    """target: what is predicted. noise_limit: times of spans that others are predicted from are drawn as
    ever and multiplied by it; null for none. The rest: when (times) and how it is scored (scores)."""

    target: Target = "velocity"
    noise_limit: Annotated[float, Field(gt=0, le=1)] | None = 0.5


class Straight(Corruption):
    """signal = 1 - t, noise = t."""

    latest = 0.999

    def __init__(self, settings: FlowSettings) -> None:
        self.settings = settings

    def draw_time(self, generator: torch.Generator, is_context: bool) -> float:
        limit = self.settings.noise_limit if is_context else None
        return shifted(draw(self.settings, generator), self.settings.shift) * (limit or 1.0)

    def coefficients(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        wide = t.double()
        return 1 - wide, wide

    def share(self, t: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """t itself."""
        return t.double()

    def times(self, evaluations: int) -> Float[Tensor, " evaluations"]:
        """From 1 down by equal steps, then shifted: the step after the last leads to 0."""
        even = torch.linspace(1, 0, evaluations + 1, dtype=torch.float64)[:-1]
        return shifted(even, self.settings.shift)


def build_flow(settings: FlowSettings) -> Diffusion:
    """The objective of these settings."""
    return Diffusion(Straight(settings), settings.target, settings)
