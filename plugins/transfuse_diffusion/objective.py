"""The diffusion objective is target × loss × weight, chosen independently; a subclass says the corruption.

A weight is stated as the error it makes the loss measure, so that it means one thing for every target.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transfuse.plugin import Loss, Settings, SpanObjective

from transfuse_diffusion.targets import Target, determinant, make_target, x0_from

FLOOR = 0.05
"""The least |d| a weight divides by: 1 - t is held at it in Tuna-2's code."""


class DiffusionSettings(Settings):
    """What the model predicts of a noised span, and how that is scored."""

    target: Target
    """what is predicted"""
    loss: Literal["mse", "l1"] = "mse"
    """squared or absolute error, averaged over a span's elements"""
    weight: Literal["none", "velocity", "min-snr"] = "none"
    """``none`` scores the prediction as it is; ``velocity`` the velocity that it implies, so that
    x0-prediction trains as a flow does (Tuna-2); ``min-snr`` its x0 by min(SNR, gamma) (arXiv 2303.09556)"""
    gamma: float = Field(5.0, gt=0, le=1e6)
    """the cap of ``min-snr``"""


class Diffusion(SpanObjective):
    """A subclass says the corruption: the times, and the signal and noise of x_t at each.

    Noise grows with t from ``clean_time`` on.
    """

    clean_time = 0.0

    def __init__(self, settings: DiffusionSettings) -> None:
        self.settings = settings

    def target(
        self, x0: Float[Tensor, "B ..."], eps: Float[Tensor, "B ..."], t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        return make_target(self.settings.target, x0, eps, *self.coefficients(t))

    def estimate(
        self, x_t: Float[Tensor, "B ..."], prediction: Float[Tensor, "B ..."], t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        return x0_from(self.settings.target, x_t, prediction, *self.coefficients(t))

    def score(
        self, prediction: Float[Tensor, "B ..."], target: Float[Tensor, "B ..."], t: Float[Tensor, " B"]
    ) -> Loss:
        """A sum over spans of a mean over each span's elements (paper, eq. 3); count = B."""
        wide = torch.promote_types(prediction.dtype, torch.float32)
        error = prediction.to(wide) - target.to(wide)
        error = error.abs() if self.settings.loss == "l1" else error.square()
        means = error.flatten(1).mean(dim=1)
        if self.settings.weight != "none":
            means = means * self._weights(t).to(wide)
        return Loss(means.sum(), float(len(means)))

    def _weights(self, t: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """What each span's mean error is multiplied by, where weight is not ``none``.

        An error δ of the prediction is one of (s + n)/d·δ in the velocity, and of n/d·δ in x0.
        """
        s, n = (c.clamp(min=1e-6) for c in self.coefficients(t))
        d = determinant(self.settings.target, s, n).abs()
        if self.settings.weight == "velocity":
            factor = (s + n) / d.clamp(min=FLOOR)
        else:
            factor = (s / n).clamp(max=self.settings.gamma**0.5) * n / d
        return factor if self.settings.loss == "l1" else factor.square()
