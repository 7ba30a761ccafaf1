"""MaskGIT's sampler: all hidden ids are drawn at once, the surest are kept, the others hidden again."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from transfuse.plugin import Denoise, Settings

from transfuse_vq.masked_id import MaskedId


class MaskGITSettings(Settings):
    """How hidden ids are filled in."""

    evaluations: int = Field(12, ge=1, le=10_000)
    """Calls of the model, at most one an id."""
    temperature: float = Field(1.0, ge=0, le=10)
    """Of the ids drawn; 0 is greedy."""
    choice_temperature: float = Field(4.5, ge=0, le=100)
    """Of the noise on which of them are kept, falling to 0 over the steps (4.5 in MaskGIT's code)."""


@dataclass(frozen=True)
class MaskGIT:
    """arXiv 2202.04200, section 3.2."""

    settings: MaskGITSettings

    def sample(
        self,
        denoise: Denoise,
        objective: MaskedId,
        shape: tuple[int, ...],
        generators: list[torch.Generator],
        mask: int,
        device: torch.device,
    ) -> Int[Tensor, "B ..."]:
        """B = len(generators) grids of ids. ``denoise`` gives logits [B, n, V] for grids with ``mask``."""
        batch, n = len(generators), math.prod(shape)
        ids = torch.full((batch, n), mask, device=device)
        steps = min(self.settings.evaluations, n)
        left = n
        for step in range(steps):
            t = torch.full((batch,), left / n, device=device)
            logits = denoise(ids.reshape(batch, *shape), t).double()
            drawn, sure = self._draw(logits, generators)
            cooled = self.settings.choice_temperature * (1 - (step + 1) / steps)
            sure = sure + cooled * gumbel(generators, (n,)).to(sure)
            hidden = ids == mask
            ids = torch.where(hidden, drawn, ids)
            # As many stay hidden as the schedule says, but one a step comes out, and one a step is left.
            stay = int(n * objective.share((step + 1) / steps))
            left = max(min(stay, left - 1), steps - step - 1)
            if left:
                unsure = sure.masked_fill(~hidden, torch.inf).topk(left, dim=1, largest=False).indices
                ids = ids.scatter(1, unsure, mask)
        return ids.reshape(batch, *shape)

    def _draw(
        self, logits: Float[Tensor, "B n V"], generators: list[torch.Generator]
    ) -> tuple[Int[Tensor, "B n"], Float[Tensor, "B n"]]:
        """An id for every place, and the log of the probability that the model gave it."""
        noise = gumbel(generators, tuple(logits.shape[1:])).to(logits)
        drawn = (logits + self.settings.temperature * noise).argmax(dim=-1)
        sure = torch.log_softmax(logits, dim=-1).gather(-1, drawn[..., None])[..., 0]
        return drawn, sure


def gumbel(generators: list[torch.Generator], shape: tuple[int, ...]) -> Float[Tensor, "B ..."]:
    """Standard Gumbel noise, each sample's from its own generator: argmax(logits + noise) is a draw."""
    each = torch.stack([torch.rand(shape, generator=g, dtype=torch.float64) for g in generators])
    return -torch.log(-torch.log(each.clamp(1e-15, 1 - 1e-15)))
