"""Samplers that may add noise on the way: DDIM, and DDPM's own ancestral steps."""

from dataclasses import dataclass

from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor
from transfuse.objective import Denoise, Sampler, SpanObjective, broadcast_like
from transfuse.parts import Settings

from transfuse_image.walk import Believer, fresh_noise, places, steps, straight


class AncestralSettings(Settings):
    """evaluations: calls of the model (all views of guidance count as one). clip: x0 is clipped to the
    codec's range, as large guidance needs."""

    evaluations: int = Field(250, ge=1, le=10_000)
    clip: bool = True


class DDIMSettings(Settings):
    """eta: the share of the ancestral step's noise: 0 is deterministic, 1 is the ancestral sampler."""

    evaluations: int = Field(50, ge=1, le=10_000)
    eta: float = Field(0.0, ge=0, le=1)
    clip: bool = True


@dataclass(frozen=True)
class Stochastic(Sampler):
    """Steps in which ε is partly replaced by fresh noise.

    Given x0 and x, the x' of a Gaussian process has standard deviation n'·√(1 - (σ'/σ)²), for any signal
    and noise; that is DDPM's β̃ where s² + n² = 1. A step adds ``eta`` of it, and keeps as much less of ε:
    arXiv 2010.02502, eq. 12, and at eta = 1 arXiv 2006.11239, algorithm 2 with eq. 7. ε is recomputed
    from the clipped x0.
    """

    evaluations: int
    clip: bool
    eta: float

    def sample(
        self,
        denoise: Denoise,
        objective: SpanObjective,
        noise: Float[Tensor, "B ..."],
        generators: list[Generator],
        bound: float,
    ) -> Float[Tensor, "B ..."]:
        believe = Believer(denoise, objective, bound if self.clip else None)
        x = x0 = noise
        for here, there in steps(places(objective, self.evaluations, noise)):
            x0, eps = believe(x, here)
            if there is None:
                break
            x = straight(x0, eps, there)
            if self.eta:
                closer = here.signal * there.noise / (there.signal * here.noise)  # σ'/σ, also where s = 0
                fresh = self.eta * there.noise * (1 - closer.square()).clamp(min=0).sqrt()
                lost = there.noise - (there.noise.square() - fresh.square()).clamp(min=0).sqrt()
                x = x - broadcast_like(lost, x) * eps + broadcast_like(fresh, x) * fresh_noise(x, generators)
        return x0


def build_ddim(settings: DDIMSettings) -> Stochastic:
    """DDIM with these settings."""
    return Stochastic(settings.evaluations, settings.clip, settings.eta)


def build_ancestral(settings: AncestralSettings) -> Stochastic:
    """DDPM's own sampler: x' is drawn from its posterior given x and x0."""
    return Stochastic(settings.evaluations, settings.clip, eta=1.0)
