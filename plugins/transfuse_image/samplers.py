"""Samplers walk from noise to data through an objective's times."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transfuse.objective import Denoise, Sampler, SpanObjective, spread
from transfuse.parts import Settings


class DDIMSettings(Settings):
    """evaluations: calls of the model (all views of guidance count as one). eta: 0 is deterministic,
    1 adds DDPM's noise. clip: x0 is clipped to the codec's range, as large guidance needs."""

    evaluations: int = Field(50, ge=1, le=10_000)
    eta: float = Field(0.0, ge=0, le=1)
    clip: bool = True


class DDIM(Sampler):
    """arXiv 2010.02502, eq. 12, with ε recomputed from the clipped x0."""

    def __init__(self, settings: DDIMSettings) -> None:
        self.settings = settings

    def sample(
        self,
        denoise: Denoise,
        objective: SpanObjective,
        noise: Float[Tensor, "B ..."],
        generators: list[torch.Generator],
        bound: float,
    ) -> Float[Tensor, "B ..."]:
        x, x0 = noise, noise
        times = objective.times(self.settings.evaluations).to(noise.device)
        for i, time in enumerate(times):
            t = time.expand(len(x))
            x0 = objective.estimate(x, denoise(x, t), t)
            if self.settings.clip:
                x0 = x0.clamp(-bound, bound)
            if i + 1 == len(times):
                break
            signal, spoil = (spread(c, x) for c in objective.coefficients(t))
            eps = (x - signal * x0) / spoil
            signal_next, spoil_next = (
                spread(c, x) for c in objective.coefficients(times[i + 1].expand(len(x)))
            )
            variance = (spoil_next / spoil) * (1 - (signal / signal_next).square()).clamp(min=0).sqrt()
            fresh = self.settings.eta * variance
            x = signal_next * x0 + (spoil_next.square() - fresh.square()).clamp(min=0).sqrt() * eps
            if self.settings.eta:
                draws = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators])
                x = x + fresh * draws.to(x)
        return x0
