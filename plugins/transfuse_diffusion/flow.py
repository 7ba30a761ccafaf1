"""Rectified flow: x_t = (1 - t)·x0 + t·ε on a straight path, t = 0 clean, t = 1 noise (arXiv 2209.03003)."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from transfuse_diffusion.objective import Diffusion, DiffusionSettings
from transfuse_diffusion.targets import Target
from transfuse_diffusion.time_distributions import TimeSettings, draw, shifted

LATEST_FOR_EPS = 0.999
"""The last time at which there is signal enough to solve an ε-prediction for x0."""


class FlowSettings(TimeSettings, DiffusionSettings):
    """When the model is trained, and what is predicted and scored then."""

    target: Target = "velocity"
    noise_limit: Annotated[float, Field(gt=0, le=1)] | None = 0.5
    """times of spans that later items are predicted from are drawn as ever and multiplied by it;
    null for none"""


class Flow(Diffusion):
    """signal = 1 - t, noise = t."""

    settings: FlowSettings

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
        """From 1 down by equal steps, then shifted: the step after the last leads to 0.

        At t = 1 there is no signal, and ε says nothing of x0: with target ``eps`` they begin a little later.
        """
        even = torch.linspace(1, 0, evaluations + 1, dtype=torch.float64)[:-1]
        times = shifted(even, self.settings.shift)
        return times.clamp(max=LATEST_FOR_EPS) if self.settings.target == "eps" else times
