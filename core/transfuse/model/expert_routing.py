"""Which positions go through whose weights, where each modality has its own in the backbone.

A position of a modality's item goes through that modality's weights. Markers, of a document or around
an item, go through the marker modality's, as in LMFusion (arXiv 2412.15188) and BAGEL (arXiv
2505.14683): they are words that the language model writes. So does filler.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Routes:
    """T positions in groups, one an expert.

    order: the positions, expert by expert, in row order within each; back: its inverse.
    sizes: how many positions each expert has.
    """

    order: Int[Tensor, " T"]
    back: Int[Tensor, " T"]
    sizes: tuple[int, ...]

    def to_groups(self, x: Tensor, dim: int = 0) -> Tensor:
        return x.index_select(dim, self.order)

    def to_row(self, x: Tensor, dim: int = 0) -> Tensor:
        return x.index_select(dim, self.back)

    def split(self, x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
        """What is in groups, as one tensor an expert."""
        return x.split(self.sizes, dim)


def routes(columns: Mapping[str, np.ndarray], experts: int, markers: int, device: torch.device) -> Routes:
    """The routes of a row: by ``mod``, but through expert ``markers`` where that is none, and at markers."""
    own = (columns["mod"] >= 0) & (columns["marker"] != 1)
    expert = np.where(own, columns["mod"], markers)
    order = np.argsort(expert, kind="stable")
    sizes = np.bincount(expert, minlength=experts)
    order, back = (torch.from_numpy(index).to(device) for index in (order, np.argsort(order)))
    return Routes(order, back, tuple(int(n) for n in sizes))
