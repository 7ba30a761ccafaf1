"""L = Σ λ_m · (Σ losses of m) / (count of m in the whole step): each modality's mean is taken once, over the step."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from transfuse.errors import TransfuseError, did_you_mean
from transfuse.modalities.loss import Loss


@dataclass(frozen=True)
class Combined:
    """The scalar to minimise and what it is made of.

    total: sum over modalities of weight × sum / count, a share of the step's loss.
    shares: per modality, this share of the unweighted mean (detached, and not read: on a GPU nobody waits for it).
    """

    total: Tensor  # scalar
    shares: dict[str, Tensor]

    @property
    def means(self) -> dict[str, float]:
        """The shares as numbers."""
        return {name: float(share) for name, share in self.shares.items()}


@dataclass(frozen=True)
class Combiner:
    """L = Σ λ_m · (Σ losses of m) / (count of m in the whole step), λ fixed (paper, section 3.4).

    weights: λ by modality. A modality without a weight is an error, never 1.
    """

    weights: Mapping[str, float]

    def combine(self, losses: Mapping[str, Loss], counts: Mapping[str, float]) -> Combined:
        """This micro-batch's share of the step's loss.

        counts: per modality, the units of the whole step over all micro-batches and ranks, known
        from the rows before the first backward: shares then add up to the loss of the whole step.
        """
        if not any(counts.values()):
            raise TransfuseError("nothing in this step carries a loss: no item has loss=True")
        for name, loss in losses.items():
            if loss.count and not counts.get(name):
                raise TransfuseError(f"modality {name!r} has a loss, and the step's counts leave it out")
        shares = {name: loss.sum / counts[name] for name, loss in losses.items() if loss.count}
        # A micro-batch may hold no loss in a step that has some: nothing to add, and backward() runs.
        nothing = torch.zeros((), requires_grad=True)
        total = (
            sum_tensors(self.weight(name) * share for name, share in shares.items()) if shares else nothing
        )
        return Combined(total, {name: share.detach() for name, share in shares.items()})

    def weight(self, modality: str) -> float:
        if modality not in self.weights:
            raise TransfuseError(
                f"modality {modality!r} has a loss but no weight under loss: in the recipe: "
                f"add `loss: {{{modality}: 1}}`, or {did_you_mean(modality, self.weights)}"
            )
        return self.weights[modality]


def add_counts(micro_batches: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The counts of a step from those of its micro-batches."""
    total: dict[str, float] = {}
    for counts in micro_batches:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def sum_tensors(terms: Iterable[Tensor]) -> Tensor:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first
