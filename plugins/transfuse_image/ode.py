"""Samplers that follow the probability-flow ODE without noise: Euler's, and Heun's with its second look."""

from dataclasses import dataclass

from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor
from transfuse.objective import Denoise, Sampler, SpanObjective, broadcast_like
from transfuse.parts import Settings

from transfuse_image.walk import Believer, Place, places, steps, straight


class EulerSettings(Settings):
    """evaluations: calls of the model (all views of guidance count as one). clip: x0 is clipped to the
    codec's range, as large guidance needs."""

    evaluations: int = Field(50, ge=1, le=10_000)
    clip: bool = True


class HeunSettings(EulerSettings):
    """evaluations: a step takes two, and the last one; so 49 are 25 steps. With an even number the last
    step but one takes one as well."""

    evaluations: int = Field(49, ge=1, le=10_000)


@dataclass(frozen=True)
class Euler(Sampler):
    """x' = x + (t' - t)·dx/dt: of a flow in t, of DDPM in σ = n / s (arXiv 2206.00364, eq. 4).

    Both keep x0 and ε and move to the next place's coefficients, as DDIM does at eta = 0.
    """

    settings: EulerSettings

    def sample(
        self,
        denoise: Denoise,
        objective: SpanObjective,
        noise: Float[Tensor, "B ..."],
        generators: list[Generator],
        bound: float,
    ) -> Float[Tensor, "B ..."]:
        believe = Believer(denoise, objective, bound if self.settings.clip else None)
        x = noise
        for here, there in steps(places(objective, self.settings.evaluations, noise)):
            x0, eps = believe(x, here)
            x = x0 if there is None else straight(x0, eps, there)
        return x


@dataclass(frozen=True)
class Heun(Sampler):
    """A step's slope is the mean of those at its two ends: arXiv 2206.00364, algorithm 1 without churn.

    There in σ = n / s; here in τ = n / (s + n), where every signal and noise is a straight path:
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
        believe = Believer(denoise, objective, bound if self.settings.clip else None)
        number = self.settings.evaluations // 2 + 1
        twice = self.settings.evaluations - number  # so many steps look again at their end
        x = noise
        for i, (here, there) in enumerate(steps(places(objective, number, noise))):
            x0, eps = believe(x, here)
            x = x0 if there is None else straight(x0, eps, there)
            if i < twice and there is not None:
                x0_then, eps_then = believe(x, there)
                half = (there.signal + there.noise) * (along(there) - along(here)) / 2
                x = x + broadcast_like(half, x) * ((eps_then - x0_then) - (eps - x0))
        return x


def along(at: Place) -> Float[Tensor, " B"]:
    """τ: how far a place lies along the straight path from data to noise."""
    return at.noise / (at.signal + at.noise)
