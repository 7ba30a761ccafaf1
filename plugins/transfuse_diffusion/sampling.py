"""What all samplers share: their settings, the timesteps they evaluate at, and the x0 and ε estimated there.

Letters: ``s``, ``n`` signal and noise at a timestep, ``σ = n / s``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transfuse.plugin import Denoise, Settings, SpanObjective, broadcast_like


class SamplerSettings(Settings):
    """What every sampler can be told."""

    evaluations: int = Field(50, ge=1, le=10_000)
    """calls of the model; all views of guidance count as one"""
    clip: bool = True
    """x0 is clipped to the codec's range, as large guidance needs"""


@dataclass(frozen=True, eq=False)
class Timestep:
    """A time on the way from noise to data, and the signal and noise of B spans there."""

    t: Float[Tensor, " B"]
    signal: Float[Tensor, " B"]
    noise: Float[Tensor, " B"]


def steps(
    objective: SpanObjective, evaluations: int, like: Float[Tensor, "B ..."]
) -> Iterator[tuple[Timestep, Timestep | None]]:
    """Each timestep of B spans with the next one; the last step leads to clean data (None)."""
    times = [time.expand(len(like)) for time in objective.times(evaluations).to(like.device)]
    timesteps = [Timestep(t, *objective.coefficients(t)) for t in times]
    return zip(timesteps, [*timesteps[1:], None], strict=True)


@dataclass(frozen=True)
class X0Estimator:
    """Asks the model for the x0 of noised spans, and clips it to ±bound (None: not at all)."""

    denoise: Denoise
    objective: SpanObjective
    bound: float | None

    def __call__(
        self, x: Float[Tensor, "B ..."], at: Timestep
    ) -> tuple[Float[Tensor, "B ..."], Float[Tensor, "B ..."]]:
        """(x0, ε): the estimate at a timestep, and the noise that x holds beside it."""
        x0 = self.objective.estimate(x, self.denoise(x, at.t), at.t)
        if self.bound is not None:
            x0 = x0.clamp(-self.bound, self.bound)
        return x0, (x - broadcast_like(at.signal, x) * x0) / broadcast_like(at.noise, x)


def fresh_noise(like: Float[Tensor, "B ..."], generators: list[torch.Generator]) -> Float[Tensor, "B ..."]:
    """Standard normal noise, each span's from its own generator."""
    return torch.stack([torch.randn(like.shape[1:], generator=g) for g in generators]).to(like)
