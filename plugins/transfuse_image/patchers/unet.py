"""A U-Net's two halves around the transformer: noised latents down to positions, positions up to the prediction.

Letters: ``B`` images, ``c h w`` a latent grid, ``k`` patch, ``L = log2 k`` halvings, ``n = (h / k)·(w / k)``
positions of an image, ``D`` model width, ``E`` width of the time embedding. Level 0 is the latent grid,
level i has half the height and width of level i - 1, and level L is the grid of positions.
"""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from transfuse.plugin import InvalidSettings, Settings, TimeEmbedding

from transfuse_image.patchers.patcher import Patcher

GROUP = 8
"""Channels normalised together. Not 1: such a norm would take away the time, which is the same at all pixels."""
HALF = 0.5**0.5
"""What a sum of two of one variance is multiplied by, to have it again."""
WIDEST = 4096
"""Most channels any level may have."""


class UNetSettings(Settings):
    """U-Net blocks down and up."""

    patch: int = Field(2, ge=1, le=64)
    """Latent pixels along a side of a position, a power of 2 (paper, table 5: 2, 4, 8)."""
    width: int = Field(64, ge=GROUP, le=1024, multiple_of=GROUP)
    """Channels at the latent grid's own resolution."""
    growth: int = Field(2, ge=1, le=4)
    """Each halving multiplies the channels by it."""
    blocks: int = Field(2, ge=1, le=16)
    """Residual blocks a level, down and up alike."""

    def scaled(self, by: int) -> "UNetSettings | None":
        return None if "patch" in self.model_fields_set else self.changed(patch=by)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, 0 … L."""
        return tuple(self.width * self.growth**level for level in range(self.patch.bit_length()))

    @model_validator(mode="after")
    def _levels(self) -> "UNetSettings":
        if self.patch & (self.patch - 1):
            raise InvalidSettings(
                [(("patch",), f"the U-Net halves the grid: a power of 2, not {self.patch}")]
            )
        if self.widths[-1] > WIDEST:
            raise InvalidSettings(
                [((), f"the lowest level would have {self.widths[-1]} channels, more than {WIDEST}")]
            )
        return self


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, around which x passes; the time is added in between.

    The block of DDPM (arXiv 2006.11239, appendix B). Where later U-Nets scale and shift the second
    norm by the time, the paper (section 4.1) has a plain norm, so the time is a sum. The second convolution starts at
    zero, so that x passes unchanged at first.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(width // GROUP, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.time = nn.Linear(embedding, width)
        self.norm2 = nn.GroupNorm(width // GROUP, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "B a h w"], time: Float[Tensor, "B E"]) -> Float[Tensor, "B a h w"]:
        inner = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return x + self.conv2(F.silu(self.norm2(inner)))


class DownLevel(nn.Module):
    """A convolution into the level's resolution and width, then its blocks, each of whose outputs is kept."""

    def __init__(self, into: int, width: int, blocks: int, embedding: int, stride: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(into, width, 3, stride=stride, padding=1)
        self.blocks = nn.ModuleList(ResBlock(width, embedding) for _ in range(blocks))

    def forward(self, x: Float[Tensor, "B a h w"], time: Float[Tensor, "B E"]) -> list[Tensor]:
        x, kept = self.enter(x), []
        for block in self.blocks:
            x = block(x, time)
            kept.append(x)
        return kept


class UpLevel(nn.Module):
    """From the level below, doubled, or from the transformer; then blocks, each of the sum with what one down kept.

    Both sides of a sum are of one size at first: a convolution that enters keeps the variance of its input. With the
    usual first weights, a third of that, and the two sides beside each other, the transformer's side would be small,
    and the prediction be made by the skips alone for long (docs/patchers.md).
    """

    def __init__(self, into: int, width: int, blocks: int, embedding: int, lowest: bool) -> None:
        super().__init__()
        self.scale = 1.0 if lowest else 2.0
        self.enter = nn.Conv2d(into, width, 1) if lowest else nn.Conv2d(into, width, 3, padding=1)
        nn.init.normal_(self.enter.weight, std=self.enter.weight[0].numel() ** -0.5)
        nn.init.zeros_(self.enter.bias)  # type: ignore[arg-type]
        self.blocks = nn.ModuleList(ResBlock(width, embedding) for _ in range(blocks))

    def forward(
        self, x: Float[Tensor, "B a h w"], kept: list[Tensor], time: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B b h2 w2"]:
        x = self.enter(F.interpolate(x, scale_factor=self.scale) if self.scale != 1 else x)
        for block, beside in zip(self.blocks, reversed(kept), strict=True):
            x = block((x + beside) * HALF, time)
        return x


class UNetPatcher(Patcher):
    """Paper, section 3.2, alternative (2), without the attention layers that some U-Nets have.

    What each block made on the way down passes by the transformer and enters a block on the way up.
    The last convolution starts at zero, so the first prediction is 0.
    """

    def __init__(self, settings: UNetSettings, shape: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.patch = settings.patch
        widths, blocks, embedding = settings.widths, settings.blocks, 4 * settings.width
        self.time = TimeEmbedding(embedding)
        entries = zip((shape[0], *widths), widths, strict=False)
        self.downs = nn.ModuleList(
            DownLevel(into, width, blocks, embedding, stride=2 if level else 1)
            for level, (into, width) in enumerate(entries)
        )
        self.norm_down = nn.GroupNorm(widths[-1] // GROUP, widths[-1])
        self.into = nn.Conv2d(widths[-1], dim, 1)
        entries = zip((*widths[1:], dim), widths, strict=True)
        self.ups = nn.ModuleList(
            UpLevel(into, width, blocks, embedding, lowest=level + 1 == len(widths))
            for level, (into, width) in enumerate(entries)
        )
        self.norm_up = nn.GroupNorm(widths[0] // GROUP, widths[0])
        self.out = nn.Conv2d(widths[0], shape[0], 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def down(
        self, x_t: Float[Tensor, "B c h w"], t: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B n D"], Any]:
        """The state is the time's embedding, made once an image, and each level's kept activations."""
        time = F.silu(self.time(t))
        x, kept = x_t, []
        for level in self.downs:
            kept.append(level(x, time))
            x = kept[-1][-1]
        return self.into(self.norm_down(x)).flatten(2).transpose(1, 2), (time, kept)

    def up(
        self, hidden: Float[Tensor, "B n D"], state: Any, t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B c h w"]:
        """``t`` is the one ``down`` was given: its embedding comes with the state."""
        time, kept = state
        x = hidden.transpose(1, 2).unflatten(2, kept[-1][-1].shape[2:])
        for level, beside in reversed(list(zip(self.ups, kept, strict=True))):
            x = level(x, beside, time)
        return self.out(F.silu(self.norm_up(x)))

    def flops(self, n: int) -> float:
        """2 for each weight of a convolution at each pixel that its level has, ``n·4^(L - i)`` at level i,
        and for each weight that the time passes, once; norms, sums and biases are not counted."""
        lowest = len(self.downs) - 1
        total = sum(p.numel() for p in self.parameters() if p.dim() == 2)
        for level, modules in enumerate(zip(self.downs, self.ups, strict=True)):
            pixels = n * 4 ** (lowest - level)
            total += pixels * sum(p.numel() for m in modules for p in m.parameters() if p.dim() == 4)
        total += n * (self.into.weight.numel() + 4**lowest * self.out.weight.numel())
        return 2.0 * total
