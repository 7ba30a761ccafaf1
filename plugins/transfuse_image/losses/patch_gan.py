"""The adversarial term: a critic that judges patches, trained beside the autoencoder.

PatchGAN (arXiv 1611.07004) with the hinge loss, joined after a share of the steps, and weighed against the
other terms by the ratio of their gradients at the decoder's last layer (VQGAN, arXiv 2012.09841, equation 7).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from transfuse.plugin import Settings

LARGEST = 1e4
"""Bound of the adaptive weight: far from it, it is never reached but where the critic is indifferent."""


class CriticSettings(Settings):
    """The patch-GAN's critic."""

    width: int = Field(default=32, ge=8, le=1024, multiple_of=8)
    """Of its first layer."""
    start: float = Field(default=0.5, ge=0, lt=1)
    """Share of the steps before it joins."""
    lr: float = Field(default=5e-4, gt=0, le=1)
    """Its learning rate."""


class Critic(nn.Module):
    """One logit a patch: high for real. A side of 16, 32, 64 or more pixels is halved 1, 2 or 3 times.

    Normalised by groups instead of batches, so that one image's verdict is not another's.
    """

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2)]
        for _ in range(min(3, max(1, side // 8).bit_length() - 1)):
            layers += [nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.GroupNorm(8, 2 * width),
                       nn.LeakyReLU(0.2)]  # fmt: skip
            width *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B 1 i j"]:
        return self.layers(x)


def critic_loss(real: Float[Tensor, "..."], made: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Hinge: real logits should reach 1, made ones -1; the mean of both sides."""
    return (F.relu(1 - real).mean() + F.relu(1 + made).mean()) / 2


def adversarial_loss(made: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """What the autoencoder lowers: the critic's logits of its reconstructions, negated."""
    return -made.mean()


def balance(
    out: Float[Tensor, "*out"],
    others: Float[Tensor, "*out"],
    adversarial: Float[Tensor, "*out"],
    last: Tensor,
) -> Float[Tensor, ""]:
    """λ = |∇ others| / (|∇ adversarial| + 1e-4) at the weights ``last``, at most `LARGEST`; a constant.

    Each is given by its slope at the reconstructions ``out``, from which there are few steps to the last weights.
    """
    slopes = (torch.autograd.grad(out, last, slope, retain_graph=True)[0] for slope in (others, adversarial))
    of_others, of_adversarial = (slope.norm() for slope in slopes)
    return (of_others / (of_adversarial + 1e-4)).clamp(max=LARGEST)
