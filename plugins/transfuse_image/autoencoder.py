"""One convolutional autoencoder for both bottlenecks, after the paper's VAE (section 4.1) at small scale."""

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


def encoder(channels: int, width: int, halvings: int, out: int) -> nn.Sequential:
    """``[B, channels, h, w]`` to ``[B, out, h / 2^halvings, w / 2^halvings]``."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), Residual(width)]
    for _ in range(halvings):
        layers += [nn.Conv2d(width, width, 4, stride=2, padding=1), Residual(width)]
    return nn.Sequential(*layers, nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1))


def decoder(channels: int, width: int, halvings: int, latent: int) -> nn.Sequential:
    """The way back."""
    layers: list[nn.Module] = [nn.Conv2d(latent, width, 3, padding=1), Residual(width)]
    for _ in range(halvings):
        layers += [Upsample(width, width), Residual(width)]
    return nn.Sequential(*layers, nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))
