"""A corruption says how clean data turns into noise: times, their direction, and x_t = signal·x0 + noise·ε."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor


class Corruption(ABC):
    """clean_time: the time of x0 itself, from which noise grows with t. latest: the last time at which
    there is signal enough to solve an ε-prediction for x0."""

    clean_time: float = 0.0
    latest: float = math.inf

    @abstractmethod
    def draw_time(self, generator: torch.Generator, is_context: bool) -> float:
        """A training time. ``is_context``: what follows is predicted from the span (noise limit)."""

    @abstractmethod
    def coefficients(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """(signal, noise) at the times, in float64."""

    @abstractmethod
    def share(self, t: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """0 clean … 1 pure noise, in float64."""

    @abstractmethod
    def times(self, evaluations: int) -> Float[Tensor, " evaluations"]:
        """From pure noise towards clean, where a sampler evaluates the model."""
