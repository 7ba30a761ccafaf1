"""The positions of a row sorted into groups, one an expert, and back."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PositionGroups:
    """T positions in groups.

    order: the positions, group by group, in row order within each; back: its inverse.
    sizes: how many positions each group has.
    """

    order: Int[Tensor, " T"]
    back: Int[Tensor, " T"]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, group: Int[np.ndarray, " T"], groups: int, device: torch.device) -> "PositionGroups":
        """``group``: which of the ``groups`` each position is in."""
        order = np.argsort(group, kind="stable")
        sizes = np.bincount(group, minlength=groups)
        order, back = (torch.from_numpy(index).to(device) for index in (order, np.argsort(order)))
        return cls(order, back, tuple(int(n) for n in sizes))

    def to_groups(self, x: Tensor, dim: int = 0) -> Tensor:
        return x.index_select(dim, self.order)

    def to_row(self, x: Tensor, dim: int = 0) -> Tensor:
        return x.index_select(dim, self.back)

    def split(self, x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
        """What is in groups, as one tensor a group."""
        return x.split(self.sizes, dim)
