"""What a data set offers: documents by number, in named splits."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from transfuse.documents import Document


class DataSet(ABC):
    """Documents by number. Training reads split ``train``, evaluation split ``heldout``.

    A data set holds raw data and no randomness of its own: what varies from visit to visit (which
    of caption and image comes first) is drawn from the generator it is handed.
    """

    name: str

    @abstractmethod
    def size(self, split: str) -> int:
        """How many documents the split ``train`` or ``heldout`` holds."""

    @abstractmethod
    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        """Document ``index`` of the split, 0 <= index < size, with ``id`` unique over all splits.

        ``rng`` draws this visit's variation; None gives the plain form (caption first).
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON that tells two data sets apart: name, sizes, a hash of the content, the licence."""

    def raw(self, split: str, modality: str) -> Iterator[Any]:
        """All raw data of one modality in a split, in order: what codecs and tokenizers train on."""
        for index in range(self.size(split)):
            for item in self.document(split, index).items:
                if item.modality == modality:
                    yield item.data
