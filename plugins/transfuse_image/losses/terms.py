"""The loss of an autoencoder as a sum of named terms, each with a weight in its settings.

The paper's is L1 + LPIPS + 0.5 GAN + 0.2 ID + 1e-6 KL, and for its VQ twin 0.25 commitment instead of KL
(section 4.1). ID compares faces by a network that knows faces; there is none to be had, so it is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from transfuse.plugin import InvalidSettings, Settings

Weight = Annotated[float, Field(ge=0, le=1e4)]
Compare = Callable[[Float[Tensor, "B c h w"], Float[Tensor, "B c h w"]], Float[Tensor, ""]]


class ImageLoss(Settings):
    """Weights of the terms that compare a reconstruction with its image, both in [-1, 1]."""

    l1: Weight = 1.0
    """Of the mean absolute difference."""
    l2: Weight = 1.0
    """Of the mean squared difference."""
    perceptual: Weight = 0.0
    """Of `perceptual.distance`."""
    gan: Weight = 0.0
    """Share of the other comparisons' gradient that the critic's has (`patch_gan.balance`)."""

    @model_validator(mode="after")
    def _compares(self) -> "ImageLoss":
        if not self.l1 + self.l2 + self.perceptual:
            raise InvalidSettings([((), "compares nothing: one of l1, l2 and perceptual must be above 0")])
        return self


PIXELS: dict[str, Compare] = {
    "l1": lambda out, x: (out - x).abs().mean(),
    "l2": lambda out, x: (out - x).square().mean(),
}


class Means:
    """Means of named values over the steps since they were last taken. Nothing is read from a device before that."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value.detach().double(), count + 1

    def take(self) -> dict[str, float]:
        """The means by name; the next begin anew."""
        means = {name: total / count for name, (total, count) in self.dump().items()}
        self._sums = {}
        return means

    def dump(self) -> dict[str, tuple[float, int]]:
        """Sums and counts, as JSON."""
        return {name: (float(total), count) for name, (total, count) in self._sums.items()}

    def restore(self, dumped: Mapping[str, Sequence[float]]) -> None:
        """The inverse."""
        self._sums = {
            name: (torch.tensor(total, dtype=torch.float64), int(count))
            for name, (total, count) in dumped.items()
        }
