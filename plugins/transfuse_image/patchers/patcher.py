"""Patchers carry latents into the transformer and back.

Letters: ``B`` images, ``c h w`` a latent grid, ``n = (h / k)·(w / k)`` patches, ``D`` model width.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Patcher(nn.Module, ABC):
    """Latents to n vectors and back. ``patch``: latent pixels along one side of a patch."""

    patch: int

    @abstractmethod
    def down(
        self, x_t: Float[Tensor, "B c h w"], t: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B n D"], Any]:
        """Vectors in row-major order, and what ``up`` needs besides the transformer's output."""

    @abstractmethod
    def up(
        self, hidden: Float[Tensor, "B n D"], state: Any, t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B c h w"]:
        """The prediction, in the shape of the latents."""

    @abstractmethod
    def flops(self, n: int) -> float:
        """FLOPs of one forward pass, down and up, for one image of n patches."""


class TimeEmbedding(nn.Module):
    """A time as sines and cosines of 32 wavelengths through a small MLP: once an image."""

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


def places(h: int, w: int, dim: int) -> Float[Tensor, "n D"]:
    """Sines and cosines of each patch's row and column, of wavelengths from 2 to 64 patches (n = h·w).

    Fixed, as in DiT (arXiv 2212.09748, section 3.2), so that one table serves all grids.
    """
    frequency = math.pi * torch.exp(-math.log(32) * torch.linspace(0, 1, dim // 4))
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (rows, columns)]
    waves = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=-1)
    return F.pad(waves, (0, dim - waves.shape[1]))
