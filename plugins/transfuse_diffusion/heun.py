"""Heun's sampler follows the probability-flow ODE, its slope the mean of those at a step's two ends."""

from dataclasses import dataclass

from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor
from transfuse.plugin import Denoise, Sampler, SpanObjective, broadcast_like

from transfuse_diffusion.sampling import SamplerSettings, Timestep, X0Estimator, steps


class HeunSettings(SamplerSettings):
    """Two evaluations a step."""

    evaluations: int = Field(49, ge=1, le=10_000)
    """Calls of the model: two a step, one in the last, so 49 are 25 steps. With an even number the last step but
    one takes one as well."""


@dataclass(frozen=True)
class Heun(Sampler):
    """arXiv 2206.00364, algorithm 1 without churn.

    There in σ; here in τ = n / (s + n), where every signal and noise is a straight path:
    x / (s + n) = (1 - τ)·x0 + τ·ε, its slope the velocity ε - x0. τ is a flow's t, and it is bounded:
    σ of the capped cosine schedule ends at 20,000, and a mean over a first step from there is far off.
    """

    settings: HeunSettings

    def sample(
        self,
        denoise: Denoise,
        objective: SpanObjective,
        noise: Float[Tensor, "B ..."],
        generators: list[Generator],
        bound: float,
    ) -> Float[Tensor, "B ..."]:
        estimate = X0Estimator(denoise, objective, bound if self.settings.clip else None)
        number = self.settings.evaluations // 2 + 1
        corrected = self.settings.evaluations - number  # so many steps evaluate at their end too
        x = x0 = noise
        for i, (here, there) in enumerate(steps(objective, number, noise)):
            x0, eps = estimate(x, here)
            if there is None:
                break
            x = objective.noised(x0, eps, there.t)
            if i < corrected:
                x0_there, eps_there = estimate(x, there)
                half = (there.signal + there.noise) * (tau(there) - tau(here)) / 2
                x = x + broadcast_like(half, x) * ((eps_there - x0_there) - (eps - x0))
        return x0


def tau(at: Timestep) -> Float[Tensor, " B"]:
    """τ: how far a timestep lies along the straight path from data to noise."""
    return at.noise / (at.signal + at.noise)
