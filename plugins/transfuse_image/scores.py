"""How a prediction is scored: squared or absolute error, weighted by time if asked for.

A weight is stated as the error it makes the loss measure, so that it means one thing for every target.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transfuse.config.parts import Settings
from transfuse.modalities.loss import Loss

from transfuse_image.targets import Target, determinant

FLOOR = 0.05
"""The least |d| a weight divides by: 1 - t is held at it in Tuna-2's code."""


class ScoreSettings(Settings):
    """loss: squared or absolute error, averaged over a span's elements.

    weight: ``none`` scores the prediction as it is; ``velocity`` the velocity that it implies, so that
    x0-prediction trains as a flow does (Tuna-2); ``min-snr`` its x0 by min(SNR, gamma) (arXiv 2303.09556).
    """

    loss: Literal["mse", "l1"] = "mse"
    weight: Literal["none", "velocity", "min-snr"] = "none"
    gamma: float = Field(5.0, gt=0, le=1e6)


def weights(
    settings: ScoreSettings, target: Target, signal: Float[Tensor, " B"], noise: Float[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """What each span's mean error is multiplied by.

    An error δ of the prediction is one of (s + n)/d·δ in the velocity, and of n/d·δ in x0.
    """
    if settings.weight == "none":
        return torch.ones_like(signal)
    s, n = signal.clamp(min=1e-6), noise.clamp(min=1e-6)
    d = determinant(target, s, n).abs()
    if settings.weight == "velocity":
        factor = (s + n) / d.clamp(min=FLOOR)
    else:
        factor = (s / n).clamp(max=settings.gamma**0.5) * n / d
    return factor if settings.loss == "l1" else factor.square()


def scored(
    settings: ScoreSettings,
    target: Target,
    prediction: Float[Tensor, "B ..."],
    wanted: Float[Tensor, "B ..."],
    signal: Float[Tensor, " B"],
    noise: Float[Tensor, " B"],
) -> Loss:
    """A sum over spans of a mean over each span's elements (paper, eq. 3); count = B."""
    wide = torch.promote_types(prediction.dtype, torch.float32)
    error = prediction.to(wide) - wanted.to(wide)
    each = (error.abs() if settings.loss == "l1" else error.square()).flatten(1).mean(dim=1)
    if settings.weight != "none":
        each = each * weights(settings, target, signal, noise).to(wide)
    return Loss(each.sum(), float(len(each)))
