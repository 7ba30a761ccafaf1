"""Diffusion = corruption × target × loss: three parts chosen independently, one objective."""

import torch
from jaxtyping import Float
from torch import Tensor
from transfuse.losses import Loss
from transfuse.objective import SpanObjective

from transfuse_image.corruption import Corruption
from transfuse_image.scores import ScoreSettings, scored
from transfuse_image.targets import Target, implied, wanted


class Diffusion(SpanObjective):
    """``ddpm`` and ``flow`` are both this; they differ in their corruption.

    predicts: the target. scoring: loss and weight.
    """

    def __init__(self, corruption: Corruption, predicts: Target, scoring: ScoreSettings) -> None:
        self.corruption, self.scoring = corruption, scoring
        self.predicts: Target = predicts
        self.clean_time = corruption.clean_time

    def draw_time(self, generator: torch.Generator, is_context: bool) -> float:
        return self.corruption.draw_time(generator, is_context)

    def coefficients(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        return self.corruption.coefficients(t)

    def share(self, t: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        return self.corruption.share(t)

    def times(self, evaluations: int) -> Float[Tensor, " evaluations"]:
        """The corruption's, with what cannot be solved for x0 left out: ε where there is no signal."""
        times = self.corruption.times(evaluations)
        return times.clamp(max=self.corruption.latest) if self.predicts == "eps" else times

    def target(
        self, x0: Float[Tensor, "B ..."], eps: Float[Tensor, "B ..."], t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        return wanted(self.predicts, x0, eps, *self.coefficients(t))

    def score(
        self, prediction: Float[Tensor, "B ..."], target: Float[Tensor, "B ..."], t: Float[Tensor, " B"]
    ) -> Loss:
        return scored(self.scoring, self.predicts, prediction, target, *self.coefficients(t))

    def estimate(
        self, x_t: Float[Tensor, "B ..."], prediction: Float[Tensor, "B ..."], t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        return implied(self.predicts, x_t, prediction, *self.coefficients(t))
