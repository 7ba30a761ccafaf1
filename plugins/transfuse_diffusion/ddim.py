"""DDIM: from Euler's steps without noise (eta = 0) to DDPM's own ancestral ones (eta = 1)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor
from transfuse.plugin import Denoise, Sampler, SpanObjective, broadcast_like

from transfuse_diffusion.sampling import SamplerSettings, X0Estimator, fresh_noise, steps


class DDIMSettings(SamplerSettings):
    """Any share of noise."""

    eta: float = Field(0.0, ge=0, le=1)
    """the share of the ancestral step's noise: 0 is deterministic, 1 is the ancestral sampler"""


class EulerSettings(SamplerSettings):
    """No noise."""

    eta: ClassVar[float] = 0.0


class AncestralSettings(SamplerSettings):
    """All of DDPM's noise: x' is drawn from its posterior given x and x0."""

    evaluations: int = Field(250, ge=1, le=10_000)
    """Calls of the model; the paper's number by default."""
    eta: ClassVar[float] = 1.0


@dataclass(frozen=True)
class DDIM(Sampler):
    """x0 and ε are kept and noised to the next timestep, with ε partly replaced by fresh noise.

    Without noise that is Euler's step x' = x + (t' - t)·dx/dt: of a flow in t, of DDPM in σ (arXiv
    2206.00364, eq. 4). Given x0 and x, the x' of a Gaussian process has standard deviation
    n'·√(1 - (σ'/σ)²), for any signal and noise; that is DDPM's β̃ where s² + n² = 1. A step adds ``eta``
    of it, and keeps as much less of ε: arXiv 2010.02502, eq. 12, and at eta = 1 arXiv 2006.11239,
    algorithm 2 with eq. 7. ε is recomputed from the clipped x0.
    """

    settings: DDIMSettings | EulerSettings | AncestralSettings

    def sample(
        self,
        denoise: Denoise,
        objective: SpanObjective,
        noise: Float[Tensor, "B ..."],
        generators: list[Generator],
        bound: float,
    ) -> Float[Tensor, "B ..."]:
        estimate = X0Estimator(denoise, objective, bound if self.settings.clip else None)
        eta = self.settings.eta
        x = x0 = noise
        for here, there in steps(objective, self.settings.evaluations, noise):
            x0, eps = estimate(x, here)
            if there is None:
                break
            x = objective.noised(x0, eps, there.t)
            if eta:
                ratio = here.signal * there.noise / (there.signal * here.noise)  # σ'/σ, also where s = 0
                added = eta * there.noise * (1 - ratio.square()).clamp(min=0).sqrt()
                removed = there.noise - (there.noise.square() - added.square()).clamp(min=0).sqrt()
                x = x - broadcast_like(removed, x) * eps
                x = x + broadcast_like(added, x) * fresh_noise(x, generators)
        return x0
