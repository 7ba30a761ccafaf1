"""Masked ids: some are hidden and predicted from the rest (MaskGIT, arXiv 2202.04200; Show-o, 2408.12528)."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from transfuse.plugin import Loss, Settings

SHOWN = -100
"""The target at ids that are not hidden: nothing to predict."""


class MaskedIdSettings(Settings):
    """How many ids are hidden, and how they are scored."""

    schedule: Literal["cosine", "linear"] = "cosine"
    """The share of hidden ids for u drawn evenly: ``cosine`` cos(πu/2), ``linear`` 1 - u."""
    noise_limit: Annotated[float, Field(gt=0, le=1)] | None = 0.5
    """That share is multiplied by it in spans that others are predicted from; null for none."""
    z_loss: float = Field(0.0, ge=0, le=1)
    """Weight of log²Z of a hidden id."""


@dataclass(frozen=True)
class MaskedId:
    """Time is the share of ids hidden: 0 clean, 1 all of them."""

    settings: MaskedIdSettings

    def share(self, u: float) -> float:
        """The share to hide at u in [0, 1], falling from 1 to 0: a schedule for training and sampling."""
        return math.cos(math.pi / 2 * u) if self.settings.schedule == "cosine" else 1 - u

    def corrupt(
        self,
        clean: Int[Tensor, "B ..."],
        generators: list[torch.Generator],
        is_context: list[bool],
        mask: int,
    ) -> tuple[Int[Tensor, "B ..."], Float[Tensor, " B"], Int[Tensor, "B ..."]]:
        """(ids with ``mask`` in place of the hidden, the share hidden, the hidden ids), from each span's
        own generator. At least one is hidden."""
        n = clean[0].numel()
        hidden = torch.zeros(len(clean), n, dtype=torch.bool)
        for row, generator, context in zip(hidden, generators, is_context, strict=True):
            share = self.share(float(torch.rand((), generator=generator)))
            share *= (self.settings.noise_limit or 1.0) if context else 1.0
            order = torch.randperm(n, generator=generator)
            row[order[: max(1, round(share * n))]] = True
        t = hidden.float().mean(dim=1)
        hidden = hidden.reshape(clean.shape)
        return clean.masked_fill(hidden, mask), t, clean.masked_fill(~hidden, SHOWN)

    def score(self, logits: Float[Tensor, "B n V"], target: Int[Tensor, "B ..."]) -> Loss:
        """A sum over spans of the mean over a span's hidden ids; count = B."""
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        wanted = target.flatten(1)
        each = F.cross_entropy(wide.mT, wanted, reduction="none", ignore_index=SHOWN)
        hidden = wanted != SHOWN
        if self.settings.z_loss:
            each = each + self.settings.z_loss * torch.logsumexp(wide, dim=-1).square() * hidden
        return Loss((each.sum(dim=1) / hidden.sum(dim=1).clamp(min=1)).sum(), float(len(target)))
