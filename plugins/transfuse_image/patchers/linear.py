"""One linear layer each way (paper, section 3.2, alternative 1).

Letters: ``B`` images, ``c h w`` a latent grid, ``n = (h / k)·(w / k)`` patches, ``D`` model width.
"""

from typing import Any

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from transfuse.plugin import Settings, TimeEmbedding, patchify, sinusoidal_positions, unpatchify

from transfuse_image.patchers.patcher import Patcher


class LinearSettings(Settings):
    """One layer each way."""

    patch: int = Field(1, ge=1, le=64)
    """Side of a patch in latent pixels (paper, table 5: 1, 2, 4, 8)."""
    places: bool = False
    """Each patch is given its row and column, besides the order that the rotary positions have (the paper has
    only those)."""

    def scaled(self, by: int) -> "LinearSettings | None":
        return None if "patch" in self.model_fields_set else self.changed(patch=by)


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
        vectors = self.into(patchify(x_t, self.patch)) + self.time(t)[:, None]
        if self.places:
            grid = [side // self.patch for side in x_t.shape[2:]]
            vectors = vectors + sinusoidal_positions(grid, vectors.shape[-1]).to(vectors)
        return vectors, x_t.shape[2:]

    def up(
        self, hidden: Float[Tensor, "B n D"], state: Any, t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B c h w"]:
        return unpatchify(self.out(hidden), state, self.patch)

    def flops(self, n: int) -> float:
        time = sum(p.numel() for p in self.time.parameters() if p.dim() == 2)  # once an image
        return 2.0 * (time + n * (self.into.weight.numel() + self.out.weight.numel()))
