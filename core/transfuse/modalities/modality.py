"""A modality owns what happens at its positions: this is the interface a plugin implements.

Letters in shapes: ``B`` spans of equal shape in a batch, ``n`` positions of a span, ``D`` model width,
``V`` vocabulary size; ``...`` is a payload's own shape, such as ``c h w``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.documents import Item, View
from transfuse.masks import NONE
from transfuse.modalities.interface import Interface
from transfuse.modalities.loss import Loss
from transfuse.modalities.raw import RawData

Report = Callable[[str], None]


class Column(IntEnum):
    """What a column for masks holds; its number is what stands wherever nothing is written."""

    ID = NONE
    FLAG = 0


@dataclass(frozen=True)
class Span:
    """A run of positions that an item becomes. An item may become several (a noised and a clean copy).

    payload: ids ``[n]`` within the modality's own range, or what a span modality embeds, ``[...]``.
    length: n, markers not counted.
    label: which begin marker opens it (``4x4`` for ``<image 4x4>``); None: no markers.
    inside: whether its markers share its ``span`` id (BAGEL, Show-o) or stand outside (Transfusion).
    grouped: whether its positions get a ``span`` id at all; text does not.
    noised: corrupted in training. loss: predicted in training.
    columns: further columns for masks, each ``[n + markers]`` whole numbers, all of them declared by
        ``Modality.columns``.
    copy: which of an item's copies it is, in the modality's own words (``"clean"``). Spans of one copy are
        embedded together, and a method that has a parameter ``copy`` is told which.
    """

    payload: np.ndarray
    length: int
    label: str | None = None
    inside: bool = False
    grouped: bool = True
    noised: bool = False
    loss: bool = True
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    copy: str = ""

    @property
    def positions(self) -> int:
        """Positions with markers."""
        return self.length + (2 if self.label is not None else 0)


class Modality(RawData, Interface):
    """Common to both kinds of modality: raw data's files and drawings, the codec, the layout, what is learnt before.

    Life of a modality: built from its settings; ``fit`` to raw data, or ``restore``d from a
    checkpoint's facts; ``connect``ed to a model of width D; then used. Weights of a codec are
    frozen; all other parameters are trained with the model.
    """

    predicts_markers: ClassVar[bool] = False  # begin markers and the end of a document are its to predict
    views: tuple[View, ...] = ()  # what guidance compares with, besides the document as it is

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    # -- before the model

    @abstractmethod
    def fit(self, raws: Iterable[Any], seed: int, report: Report, effort: float = 1.0) -> None:
        """Learn the codec from all raw data of the training split: a tokenizer, an autoencoder.

        effort: the share of its training to do; 0 only makes what has the right shapes. A ``fit`` that has a
        further parameter ``context`` is told a `FitContext`.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """JSON that, with the settings and the saved weights, rebuilds the modality."""

    @abstractmethod
    def restore(self, facts: dict[str, Any]) -> None:
        """The inverse of ``facts``; weights are loaded afterwards."""

    @abstractmethod
    def connect(self, dim: int) -> None:
        """Make the layers that are trained with a model of width ``dim``."""

    # -- codec and layout

    @abstractmethod
    def encode(self, raw: Any) -> np.ndarray:
        """Raw data to a payload. Raises TransfuseError saying what is wrong with the data."""

    @abstractmethod
    def decode(self, payload: np.ndarray) -> Any:
        """The inverse of ``encode`` within the codec's stated error."""

    @abstractmethod
    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        """The spans an item becomes, in order; at least one. Of one label, all but their payloads is the same.

        Noised and clean, an item must end alike, since what follows is predicted from its last position: last
        spans and cursors differ in nothing but, of a lone span, being noised. Sampling fills in the first span.
        """

    def columns(self) -> Mapping[str, Column]:
        """Columns that its spans add for masks, ids or flags; where no span writes one it holds no id or no flag.
        They, lengths and positions rest on the label alone: decoding lays out ``blank(label)``, its ids unknown."""
        return {}

    def labels(self) -> tuple[str, ...]:
        """One label for each shape an item of this modality may have; none: it has no markers."""
        return ()

    def blank(self, label: str) -> np.ndarray:
        """A payload of the shape that ``label`` names, values unimportant: what sampling is laid out by."""
        raise NotImplementedError(f"labels() names {label!r}, and blank() is not written")

    def positions(self, span: Span, cursor: int) -> tuple[Int[np.ndarray, " n"], int]:
        """Rotary positions ``[span.positions]`` and the cursor for what follows.

        Spans that share positions return the cursor they were given.
        """
        return np.arange(cursor, cursor + span.positions), cursor + span.positions


class TokenModality(Modality):
    """Its positions are ids of the vocabulary, each predicted from those before it."""

    @property
    @abstractmethod
    def codes(self) -> int:
        """How many ids it has of its own."""

    @abstractmethod
    def objective(self, logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"]) -> Loss:
        """The loss of predicting ``targets`` (ids of the vocabulary); count = how many."""

    @abstractmethod
    def choose(self, logits: Float[Tensor, "views V"], generator: torch.Generator, left: float) -> int:
        """The next id, fixed by the generator, from logits in which forbidden ids are -inf.

        logits: of the whole document first, then of each of ``views``. left: the share of the item's ids
        that are still to be drawn, 1 at its first; always 1 where the item has no set length (text).
        """

    def choose_each(
        self, logits: Float[Tensor, "B views V"], generators: Sequence[torch.Generator], left: float
    ) -> Int[Tensor, " B"]:
        """``choose`` for B documents at once, each with its own generator; by default one after another.

        A class that says ``choose`` alone is asked one by one, though one that it inherits from says both.
        """
        each = zip(logits, generators, strict=True)
        return torch.tensor([self.choose(own, generator, left) for own, generator in each])


class SpanModality(Modality):
    """Its positions are predicted a span at a time: corrupt, embed, transform, head, objective.

    The B spans of a call are of one payload shape and dtype, one length and one ``Span.copy``. ``embed``,
    ``head`` and ``objective`` may have one more parameter, ``copy: str``, and are then told which copy it is:
    a clean copy may have an encoder of its own, as in BAGEL (arXiv 2505.14683). One that has none is called
    without.
    """

    clean_time: float  # the time of an uncorrupted span
    mixed_precision: ClassVar[bool] = False  # its embed and head may run under autocast in bf16

    @abstractmethod
    def corrupt(
        self, clean: Float[Tensor, "B ..."], generators: list[torch.Generator], is_context: list[bool]
    ) -> tuple[Float[Tensor, "B ..."], Float[Tensor, " B"], Float[Tensor, "B ..."]]:
        """(x_t, t, target) of B spans, each from its own generator. ``is_context``: later items are
        predicted from the span, where the paper limits the noise (section 4.3.4)."""

    @abstractmethod
    def embed(
        self, x_t: Float[Tensor, "B ..."], t: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B n D"], Any]:
        """Vectors for the transformer, and what the modality's own head needs of them later."""

    @abstractmethod
    def head(
        self, hidden: Float[Tensor, "B n D"], state: Any, t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B ..."]:
        """The prediction from the transformer's output and ``embed``'s state."""

    @abstractmethod
    def objective(self, prediction: Tensor, target: Tensor, t: Float[Tensor, " B"]) -> Loss:
        """The loss of B spans: a sum over spans of a mean over each span's elements; count = B."""

    @abstractmethod
    def sample(
        self,
        evaluate: "Evaluate",
        label: str,
        generators: list[torch.Generator],
    ) -> Float[Tensor, "B ..."]:
        """B = len(generators) new payloads of shape ``label``, by any loop over ``evaluate``."""

    def noise_share(self, t: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """How far each time is from clean: 0 clean … 1 pure noise, whatever its times count in."""
        return (t - self.clean_time).abs().clamp(0, 1)

    def flops(self, span_length: int) -> float:
        """Multiply-adds × 2 of one forward pass of its own layers over one span."""
        return 2.0 * span_length * sum(p.numel() for p in self.parameters() if p.requires_grad)


class Evaluate(ABC):
    """What a sampler asks the model: the prediction for B corrupted spans in their contexts."""

    @abstractmethod
    def __call__(
        self, x_t: Float[Tensor, "B ..."], t: Float[Tensor, " B"], guided: bool = True
    ) -> list[Float[Tensor, "B ..."]]:
        """One prediction of the whole document, then one for each of the modality's ``views``.

        guided: False asks for the first alone, and costs no more. Nothing is kept: each call overwrites
        the positions of the last.
        """
