"""What all samplers share: the places they evaluate at, the x0 they believe, and the step without noise.

Letters: ``s``, ``n`` signal and noise of a place, ``σ = n / s``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transfuse.objective import Denoise, SpanObjective, broadcast_like


@dataclass(frozen=True, eq=False)
class Place:
    """A time on the way from noise to data, and its signal and noise."""

    t: Float[Tensor, " B"]
    signal: Float[Tensor, " B"]
    noise: Float[Tensor, " B"]


def places(objective: SpanObjective, evaluations: int, like: Float[Tensor, "B ..."]) -> list[Place]:
    """Where B spans are evaluated, one place after another."""
    found = []
    for time in objective.times(evaluations).to(like.device):
        t = time.expand(len(like))
        found.append(Place(t, *objective.coefficients(t)))
    return found


def steps(places: list[Place]) -> Iterator[tuple[Place, Place | None]]:
    """Each place with the next one; the last step leads to clean data (None)."""
    return zip(places, [*places[1:], None], strict=True)


@dataclass(frozen=True)
class Believer:
    """Asks the model, and clips what x0 it implies to ±bound (None: not at all)."""

    denoise: Denoise
    objective: SpanObjective
    bound: float | None

    def __call__(
        self, x: Float[Tensor, "B ..."], at: Place
    ) -> tuple[Float[Tensor, "B ..."], Float[Tensor, "B ..."]]:
        """(x0, ε): the estimate at a place, and the noise that x holds beside it."""
        x0 = self.objective.estimate(x, self.denoise(x, at.t), at.t)
        if self.bound is not None:
            x0 = x0.clamp(-self.bound, self.bound)
        return x0, (x - broadcast_like(at.signal, x) * x0) / broadcast_like(at.noise, x)


def straight(x0: Float[Tensor, "B ..."], eps: Float[Tensor, "B ..."], to: Place) -> Float[Tensor, "B ..."]:
    """The same x0 and ε at another place: a step of Euler's in any variable in which the way is straight."""
    return broadcast_like(to.signal, x0) * x0 + broadcast_like(to.noise, x0) * eps


def fresh_noise(like: Float[Tensor, "B ..."], generators: list[torch.Generator]) -> Float[Tensor, "B ..."]:
    """Standard normal noise, each span's from its own generator."""
    return torch.stack([torch.randn(like.shape[1:], generator=g) for g in generators]).to(like)
