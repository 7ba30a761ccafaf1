"""The convolutional autoencoder that every bottleneck shares, after the paper's VAE (section 4.1) at small scale."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        return x + self.layers(x)


class Upsample(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h2 w2"]:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def encoder(channels: int, widths: Sequence[int], out: int, stem: int = 1) -> nn.Sequential:
    """``[B, channels, h, w]`` to ``[B, out, h / down, w / down]``.

    stem: squares of so many pixels a side become channels before the first layer (pixel unshuffle).
    widths: of the layers at each size, from the image's to the latent's, each half the one before:
    down = stem · 2^(len(widths) - 1).
    """
    layers: list[nn.Module] = [nn.PixelUnshuffle(stem)] if stem > 1 else []
    layers += [nn.Conv2d(channels * stem * stem, widths[0], 3, padding=1), Residual(widths[0])]
    for before, width in pairwise(widths):
        layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), Residual(width)]
    return nn.Sequential(*layers, *_last(widths[-1], out))


def decoder(channels: int, widths: Sequence[int], latent: int, stem: int = 1) -> nn.Sequential:
    """The way back."""
    layers: list[nn.Module] = [nn.Conv2d(latent, widths[-1], 3, padding=1), Residual(widths[-1])]
    for before, width in pairwise(widths[::-1]):
        layers += [Upsample(before, width), Residual(width)]
    layers += _last(widths[0], channels * stem * stem)
    return nn.Sequential(*layers, *([nn.PixelShuffle(stem)] if stem > 1 else []))


def _last(width: int, out: int) -> tuple[nn.Module, ...]:
    return nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1)
