"""What the other runners share: they train on the documents of our rows, in batches of their own."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transfuse import Document

from runners.ours import Ours
from runners.workloads import data_positions


class InBatches(ABC):
    """A model trained on the groups of documents that are our rows; a subclass says what a batch's loss is.

    passes: into how many batches a group goes, the documents sorted by length.
    """

    model: nn.Module

    def __init__(self, ours: Ours, model: nn.Module, dtype: str, passes: int) -> None:
        self.model, self.dtype, self.passes = model, dtype, passes
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), fused=True)
        self.groups: Iterator[list[Document]] = ours.groups()

    @abstractmethod
    def batch_loss(self, documents: list[Document]) -> Tensor:
        """The mean loss of one batch."""

    def backward_keeps(self) -> tuple[Tensor, int]:
        documents = next(self.groups)
        return self.batch_loss(documents), sum(map(data_positions, documents))

    def step(self) -> int:
        """One optimiser step on one of our rows' documents; how many data positions it had."""
        documents = next(self.groups)
        by_length = sorted(documents, key=data_positions)
        size = -(-len(documents) // self.passes)
        self.optimizer.zero_grad()
        for start in range(0, len(documents), size):
            part = by_length[start : start + size]
            (self.batch_loss(part) * (len(part) / len(documents))).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return sum(map(data_positions, documents))
