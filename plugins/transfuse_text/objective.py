"""Next-token cross-entropy, with the z-loss that keeps Chameleon's logits from drifting."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from transfuse.plugin import Loss, Settings, TokenObjective


class NextTokenSettings(Settings):
    """Cross-entropy and its z-loss."""

    z_loss: float = Field(0.0, ge=0, le=1)
    """Weight of log²Z, the squared log of the softmax denominator (PaLM; Chameleon uses 1e-5)."""


class NextToken(TokenObjective):
    def __init__(self, settings: NextTokenSettings) -> None:
        self.z_loss = settings.z_loss

    def score(self, logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"]) -> Loss:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        total = F.cross_entropy(logits, targets, reduction="sum")
        if self.z_loss:
            total = total + self.z_loss * torch.logsumexp(logits, dim=-1).square().sum()
        return Loss(total, float(len(targets)))
