"""Patchers carry latents into the transformer and back.

Letters: ``B`` images, ``c h w`` a latent grid, ``n = (h / k)·(w / k)`` patches, ``D`` model width.
"""

from abc import ABC, abstractmethod
from typing import Any

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
