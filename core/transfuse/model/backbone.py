"""What a kind of transformer block must do: the interface of Llama's blocks and of those that plugins bring.

Letters: ``T`` positions of a row, ``S`` embedded spans in it, ``D`` width, ``H`` heads, ``G`` key-value heads,
``d`` width of a head.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transfuse.errors import TransfuseError
from transfuse.masks import NONE
from transfuse.modalities.interface import Interface
from transfuse.sequences.batch import Batch

# (q [H T d], k [G T d], v [G T d]) -> [H T d] in one layer: masks, caches and kernels live behind it.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class RowContext:
    """What blocks may know of a row's positions besides their vectors, alike in training and decoding.

    columns: integer arrays on the CPU. A document's own are ``pos``, ``mod``, ``item``, ``noised``, ``marker``
        and what plugins add; ``doc``, ``idx``, ``span`` and ``sample`` depend on what else the row holds.
    positions: the columns of ``model.rope``, for rotary embeddings.
    modality: the modality, by number, whose weights a position goes through; on the CPU.
    span: which of the row's S spans a position's vector is of; NONE at ids and markers.
    """

    columns: Mapping[str, np.ndarray]
    positions: Int[Tensor, "T axes"]
    modality: Int[np.ndarray, " T"]
    span: Int[Tensor, " T"]

    @classmethod
    def of(cls, batch: Batch, marker_modality: int) -> "RowContext":
        """The context of a batch; ``marker_modality``: as `modality_of_weights` takes it."""
        span, first = torch.full_like(batch.tokens, NONE), 0
        for group in batch.groups:
            span[group.index] = torch.arange(first, first + len(group.t), device=span.device)[:, None]
            first += len(group.t)
        modality = modality_of_weights(batch.columns, marker_modality)
        return cls(batch.columns, batch.positions, modality, span)

    def by_span(self, values: Float[Tensor, "S ..."]) -> Float[Tensor, "T ..."]:
        """Each position's value is its span's; 0 where it has none."""
        return torch.cat([values, values.new_zeros(1, *values.shape[1:])])[self.span]  # NONE, -1, is the last


def modality_of_weights(columns: Mapping[str, np.ndarray], marker_modality: int) -> Int[np.ndarray, " T"]:
    """The number of the modality whose weights each position goes through: the one that owns its item.

    Markers, of a document or around an item, go through those of ``marker_modality``, as in LMFusion (arXiv
    2412.15188) and BAGEL (arXiv 2505.14683): they are words that the language model writes. So does filler.
    """
    own = (columns["mod"] != NONE) & (columns["marker"] != 1)
    return np.where(own, columns["mod"], marker_modality)


class Backbone(Interface):
    """All blocks of a model, of one kind, and the norm behind them.

    Whatever it keeps of a row it makes in ``prepare``: the same row is run many times while a span is
    sampled, and only vectors and times change.
    """

    @abstractmethod
    def prepare(self, row: RowContext) -> Any:
        """What ``forward`` needs of a row, made once: rotary tables, who goes through which expert."""

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "T D"], prepared: Any, t: Float[Tensor, " S"], attend: Sequence[Attend]
    ) -> Float[Tensor, "T D"]:
        """The output at every position, after the last norm.

        prepared: what ``prepare`` returned. t: the time of each span, as its modality counts it.
        attend: attention among the row's positions, one callable a layer.
        """

    def weights(self, modality: str) -> Iterable[tuple[str, nn.Parameter]]:
        """The weights that a modality's positions go through, by the names they have where all share them."""
        return self.named_parameters()

    def begin(self, modality: str) -> None:
        """Give a modality that joins a trained model the weights it begins with; by default those that were drawn."""

    def flops(self, modality: str) -> float:
        """Multiply-adds × 2 of a forward pass of one of its positions, attention's products apart: of each matrix."""
        return 2.0 * sum(p.numel() for _, p in self.weights(modality) if p.dim() == 2)

    def load_pretrained(self, model: Any, folder: Path) -> None:
        """A folder's language model into these and the `Model`'s tables. Raises TransfuseError if it does not fit."""
        raise TransfuseError(f"model.pretrained: these blocks read no weights: {folder} is for block llama")

    def save_pretrained(self, model: Any, folder: Path, longest: int) -> None:
        """The inverse, for rows of at most ``longest`` positions. Raises TransfuseError where the model is no such."""
        raise TransfuseError("these blocks are no language model for others to open: those of llama are")
