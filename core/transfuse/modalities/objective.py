"""Objectives and samplers: what is predicted, how it is scored, and how a sample is drawn from it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.modalities.loss import Loss

# (x_t [B ...], t [B]) -> prediction [B ...], guidance already applied
Denoise = Callable[[Tensor, Tensor], Tensor]


class TokenObjective(ABC):
    """Scores logits against ids."""

    @abstractmethod
    def score(self, logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"]) -> Loss:
        """A sum over tokens; count = n."""


class SpanObjective(ABC):
    """Corruption, prediction target and loss of a continuous span.

    x_t = signal(t)·x0 + noise(t)·ε. Times are the objective's own: a subclass says their range and
    direction. ``clean_time`` is the time of x0 itself.
    """

    clean_time: float

    @abstractmethod
    def draw_time(self, generator: torch.Generator, is_context: bool) -> float:
        """A training time. ``is_context``: what follows is predicted from the span (noise limit)."""

    @abstractmethod
    def coefficients(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """(signal, noise) at the times."""

    @abstractmethod
    def share(self, t: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """How far each time is from clean: 0 clean … 1 pure noise, whatever the objective counts in."""

    @abstractmethod
    def target(
        self, x0: Float[Tensor, "B ..."], eps: Float[Tensor, "B ..."], t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        """What a perfect model predicts."""

    @abstractmethod
    def score(
        self, prediction: Float[Tensor, "B ..."], target: Float[Tensor, "B ..."], t: Float[Tensor, " B"]
    ) -> Loss:
        """A sum over spans of a mean over each span's elements; count = B. 0 for a perfect prediction."""

    @abstractmethod
    def estimate(
        self, x_t: Float[Tensor, "B ..."], prediction: Float[Tensor, "B ..."], t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        """The x0 that the prediction implies."""

    @abstractmethod
    def times(self, evaluations: int) -> Float[Tensor, " evaluations"]:
        """Times from pure noise towards clean at which a sampler evaluates the model.

        A sampler's last step leads from the last of them to clean data.
        """

    def corrupt(
        self, x0: Float[Tensor, "B ..."], generators: list[torch.Generator], is_context: list[bool]
    ) -> tuple[Float[Tensor, "B ..."], Float[Tensor, " B"], Float[Tensor, "B ..."]]:
        """(x_t, t, target) of B spans, each from one draw of a time and one of noise."""
        t = torch.tensor([self.draw_time(*each) for each in zip(generators, is_context, strict=True)])
        eps = torch.stack([torch.randn(x0.shape[1:], generator=g, dtype=x0.dtype) for g in generators])
        return self.noised(x0, eps, t), t, self.target(x0, eps, t)

    def noised(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        signal, noise = (broadcast_like(c, x0) for c in self.coefficients(t))
        return signal * x0 + noise * eps


class Sampler(ABC):
    """Draws spans from a denoiser."""

    @abstractmethod
    def sample(
        self,
        denoise: Denoise,
        objective: SpanObjective,
        noise: Float[Tensor, "B ..."],
        generators: list[torch.Generator],
        bound: float,
    ) -> Float[Tensor, "B ..."]:
        """B spans from B pieces of pure noise. ``bound``: x0 is clipped to ±bound."""


def broadcast_like(values: Float[Tensor, " B"], like: Float[Tensor, "B ..."]) -> Tensor:
    """One value a span, shaped to multiply its elements."""
    return values.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))
