"""Patchers carry latents into the transformer and back.

Letters: ``B`` images, ``c h w`` a latent grid, ``n = (h / k)·(w / k)`` patches, ``D`` model width.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from transfuse.plugin import Settings


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


class LinearSettings(Settings):
    """One layer each way."""

    patch: int = Field(1, ge=1, le=64)
    """Side of a patch in latent pixels (paper, table 5: 1, 2, 4, 8)."""
    places: bool = False
    """Each patch is given its row and column, besides the order that the rotary positions have (the paper has
    only those)."""


class LinearPatcher(Patcher):
    """Paper, section 3.2, alternative (1): a time embedding and one linear layer each way.

    The embedding is added after the layer, at width D: added to a patch vector of ``c·k·k`` = 4 numbers,
    as small latents have, it could reach only 4 of the D directions.
    """

    def __init__(self, settings: LinearSettings, shape: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.patch, self.places = settings.patch, settings.places
        self.shape = shape
        width = shape[0] * self.patch**2
        self.time = TimeEmbedding(dim)
        self.into = nn.Linear(width, dim)
        self.out = nn.Linear(dim, width)

    def down(
        self, x_t: Float[Tensor, "B c h w"], t: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B n D"], Any]:
        patches = F.unfold(x_t, self.patch, stride=self.patch).transpose(1, 2)
        vectors = self.into(patches) + self.time(t)[:, None]
        if self.places:
            h, w = (side // self.patch for side in x_t.shape[2:])
            vectors = vectors + places(h, w, vectors.shape[-1]).to(vectors)
        return vectors, x_t.shape[2:]

    def up(
        self, hidden: Float[Tensor, "B n D"], state: Any, t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B c h w"]:
        return F.fold(self.out(hidden).transpose(1, 2), state, self.patch, stride=self.patch)

    def flops(self, n: int) -> float:
        time = sum(p.numel() for p in self.time.parameters() if p.dim() == 2)  # once an image
        return 2.0 * (time + n * (self.into.weight.numel() + self.out.weight.numel()))
