"""Sums travel with their counts: a mean is taken once, over the whole step."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A sum of losses and how many units it sums: tokens for text, images for diffusion."""

    sum: Tensor  # scalar
    count: float

    @property
    def mean(self) -> float:
        """Sum over count, as a number."""
        return float(self.sum.detach()) / self.count

    def __add__(self, other: "Loss") -> "Loss":
        return Loss(self.sum + other.sum, self.count + other.count)
