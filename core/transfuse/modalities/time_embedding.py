"""What layers are told of the noise: a clock of 1000, whatever an objective counts in, as sines through an MLP."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def clock(share: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The share of noise (`SpanModality.noise_share`) as a time of 1000, which `TimeEmbedding` resolves."""
    return (1000 * share).float()


class TimeEmbedding(nn.Module):
    """A time of 1000 as sines and cosines of 32 wavelengths (DDPM, arXiv 2006.11239) through a small MLP."""

    def __init__(self, dim: int, wavelengths: int = 32) -> None:
        super().__init__()
        self.wavelengths = wavelengths
        self.into = nn.Linear(2 * wavelengths, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, t: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        steps = torch.arange(self.wavelengths, device=t.device) / self.wavelengths
        angle = t[:, None].float() * torch.exp(-math.log(10_000) * steps)
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return self.out(F.silu(self.into(waves.to(self.into.weight.dtype))))
