"""Grids of any number of axes as patches: a series, an image, a film, each cut along all its axes alike.

Letters: ``B`` grids, ``c`` channels, ``k`` side of a patch, ``a`` axes, ``n`` patches in row-major order.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def patchify(x: Float[Tensor, "B c ..."], patch: int) -> Float[Tensor, "B n ck^a"]:
    """The patches of grids whose sides divide by ``patch``; a patch's numbers channel by channel."""
    batch, channels, *grid = x.shape
    axes = len(grid)
    split = x.reshape(batch, channels, *(m for side in grid for m in (side // patch, patch)))
    order = (0, 1, *range(3, 3 + 2 * axes, 2), *range(2, 2 + 2 * axes, 2))  # inside a patch, then patches
    return split.permute(order).reshape(batch, channels * patch**axes, -1).transpose(1, 2)


def unpatchify(
    vectors: Float[Tensor, "B n ck^a"], grid: Sequence[int], patch: int
) -> Float[Tensor, "B c ..."]:
    """The inverse of ``patchify``. grid: the sides of the grids, channels not among them."""
    axes = len(grid)
    split = vectors.transpose(1, 2).reshape(
        len(vectors), -1, *[patch] * axes, *(side // patch for side in grid)
    )
    order = (0, 1, *(m for axis in range(axes) for m in (2 + axes + axis, 2 + axis)))
    return split.permute(order).reshape(len(vectors), -1, *grid).contiguous()


def sinusoidal_positions(grid: Sequence[int], dim: int) -> Float[Tensor, "n D"]:
    """Sines and cosines of each patch's place along each axis, of wavelengths from 2 to 64 patches.

    Fixed, as in DiT (arXiv 2212.09748, section 3.2), so that one table serves all grids. grid: patches along
    each axis; what is left of ``dim`` is 0.
    """
    frequency = math.pi * torch.exp(-math.log(32) * torch.linspace(0, 1, dim // (2 * len(grid))))
    along = torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
    angles = [places.reshape(-1, 1) * frequency for places in along]
    waves = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=-1)
    return F.pad(waves, (0, dim - waves.shape[1]))
