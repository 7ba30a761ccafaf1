"""A codec turns raw data into what the model sees and back; it is trained first and then frozen."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.fit_context import CPU, FitContext
from transfuse.modalities.interface import Interface
from transfuse.modalities.modality import Modality, Report
from transfuse.modalities.raw import RawData


class Codec(RawData, Interface):
    """Raw data to latents (float32) or to a grid of codes (int64, 0 … codes-1), and back.

    codes: how many codes there are, known before it is fit; 0 for a codec of continuous latents.
    channels: channels of a latent grid ``[channels, *sides]``; a grid of codes is ``[*sides]``.
    bound: nearly all latents lie within ±bound, so a sampler may clip to it.
    """

    codes: int = 0
    channels: int
    bound: float

    def train(self, mode: bool = True) -> "Codec":
        """A codec is frozen: training the model around it leaves it in evaluation mode."""
        return super().train(mode and any(p.requires_grad for p in self.parameters()))

    def load(self, path: Path, shape: tuple[int, ...] | None = None) -> Any:
        """What ``save`` wrote. shape: of the raw data that it is for, where they have but one; a codec that can
        bring others to it, by resizing, does."""
        return super().load(path)

    @abstractmethod
    def fit(self, raws: Sequence[np.ndarray], seed: int, report: Report, effort: float = 1.0) -> None:
        """Train on all raw data of the training split, then freeze. ``effort``: the share of it to do.

        A ``fit`` that has a further parameter ``context`` is told a `FitContext`: it trains on its device, and goes
        on where it was stopped.
        """

    @abstractmethod
    def restore(self, facts: dict[str, Any]) -> None:
        """Make the layers that saved weights are loaded into, from ``facts``."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """JSON that ``restore`` needs, and figures of the training worth showing."""

    @abstractmethod
    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The sides of the latent grid for raw data of this shape: height and width, or any number of them."""

    @abstractmethod
    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Raw data to a payload. Raises TransfuseError where it is not what the codec was made for."""

    @abstractmethod
    def decode(self, payload: np.ndarray) -> np.ndarray:
        """A payload back to raw data."""


def by(sides: Iterable[int]) -> str:
    """``4x4``"""
    return "x".join(map(str, sides))


class GridModality(Modality):
    """What modalities of grids share: a codec, the sizes of the grids that the data had, and a label for each.

    sizes: the sides of each latent grid. patch: along a side, so many become one position. A subclass is a token
    or a span modality too, and says how a grid becomes positions.
    """

    patch: int = 1

    def __init__(self, name: str, codec: Codec) -> None:
        super().__init__(name)
        self.codec = codec
        self.suffixes = seam.call(codec, "suffixes")
        self.round_trip_error, self.does_not = codec.round_trip_error, codec.does_not
        self.sizes: list[tuple[int, ...]] = []

    def fit(
        self, raws: Iterable[Any], seed: int, report: Report, effort: float = 1.0, context: FitContext = CPU
    ) -> None:
        kept = raws if isinstance(raws, Sequence) else list(raws)
        if not kept:
            raise TransfuseError(f"modality {self.name!r}: the data hold nothing of it to train the codec on")
        told = lambda line: report(f"{self.name}: {line}")  # noqa: E731
        seam.fit(self.codec, kept, seed, told, effort, context)
        self.sizes = sorted({tuple(seam.call(self.codec, "grid", raw.shape)) for raw in kept})
        if odd := [size for size in self.sizes if any(side % self.patch for side in size)]:
            raise TransfuseError(
                f"modality {self.name!r}: a latent grid of {by(odd[0])} does not divide into patches of {self.patch}"
            )

    def facts(self) -> dict[str, Any]:
        return {"codec": seam.facts(self.codec), "sizes": [list(size) for size in self.sizes]}

    def restore(self, facts: dict[str, Any]) -> None:
        seam.call(self.codec, "restore", facts["codec"])
        self.sizes = [tuple(map(int, size)) for size in facts["sizes"]]

    def encode(self, raw: Any) -> np.ndarray:
        payload = seam.payload(self.codec, "encode", raw)
        if (size := self.size_of(payload)) not in self.sizes:
            known = ", ".join(map(by, self.sizes))
            raise TransfuseError(f"its latent grid is {by(size)}, and this modality was fit to {known}")
        return payload

    def decode(self, payload: np.ndarray) -> np.ndarray:
        return seam.call(self.codec, "decode", payload)

    # -- sizes

    def size_of(self, payload: np.ndarray) -> tuple[int, ...]:
        """The sides of a payload's grid."""
        return payload.shape if self.codec.codes else payload.shape[1:]

    def label_of(self, payload: np.ndarray) -> str:
        """Its shape in positions, as its begin marker says it: ``4x4``."""
        return by([side // self.patch for side in self.size_of(payload)])

    def length_of(self, payload: np.ndarray) -> int:
        """How many positions it becomes."""
        return math.prod(side // self.patch for side in self.size_of(payload))

    def labels(self) -> tuple[str, ...]:
        return tuple(by([side // self.patch for side in size]) for size in self.sizes)

    def blank(self, label: str) -> np.ndarray:
        size = self.sizes[self.labels().index(label)]
        codes = self.codec.codes > 0
        return np.zeros(size if codes else (self.codec.channels, *size), np.int64 if codes else np.float32)

    # -- raw data are the codec's

    def save(self, raw: Any, path: Path) -> None:
        seam.call(self.codec, "save", raw, path)

    def load(self, path: Path) -> Any:
        shape = self.decode(self.blank(self.labels()[0])).shape if len(self.sizes) == 1 else None
        return seam.call(self.codec, "load", path, shape)

    def draw(self, raw: Any) -> str | bytes | None:
        return seam.call(self.codec, "draw", raw)

    def suffix_for(self, raw: Any) -> str:
        return seam.call(self.codec, "suffix_for", raw)
