"""Images as codes: a codec with a codebook, its codes in row-major order, predicted one after another.

Chameleon (arXiv 2405.09818): one vocabulary of text and image ids, one causal mask.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from transfuse.plugin import (
    Chosen,
    Codec,
    Column,
    GridModality,
    GuidanceSettings,
    Item,
    Loss,
    PartOf,
    Settings,
    Span,
    TokenModality,
    TokenObjective,
    TransfuseError,
    draw,
)
from transfuse_pictures.places import PLACES, places


class VQSettings(Settings):
    """Codes drawn in turn."""

    fit_by = ("codec",)
    sampled_by = ("temperature", "top_p", "guidance")

    codec: Annotated[Chosen[Codec], PartOf("codec")] = Field(default={"name": "vq"}, validate_default=True)
    """Pixels to codes and back."""
    objective: Annotated[Chosen[TokenObjective], PartOf("objective")] = Field(
        default={"name": "next-token"}, validate_default=True
    )
    """How codes are scored."""
    temperature: float = Field(1.0, ge=0, le=10)
    """Of the codes drawn; 0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Codes are drawn from the likeliest, which together have this probability."""
    guidance: GuidanceSettings = GuidanceSettings()
    """Of log-probabilities; its interval is one of the share of codes still to be drawn, 1 at the first."""


class CodeGrid(GridModality):
    """What modalities of codes share, drawn in turn or hidden and filled in."""

    def __init__(self, codec: Chosen[Codec], guidance: GuidanceSettings, name: str) -> None:
        super().__init__(name, codec.build())
        if not self.codec.codes:
            raise TransfuseError(f"codec {codec.name!r} gives latents, not codes; use codec vq")
        if guidance.rescale:
            raise TransfuseError("guidance.rescale is for latents, and codes have none: leave it 0")
        self.views = guidance.views_dropped

    def columns(self) -> Mapping[str, Column]:
        """Of grids that have rows and columns; known once it is fit."""
        return PLACES if not self.sizes or any(len(sides) == len(PLACES) for sides in self.sizes) else {}


class VQ(CodeGrid, TokenModality):
    def __init__(self, settings: VQSettings, name: str) -> None:
        super().__init__(settings.codec, settings.guidance, name)
        self.settings = settings
        self.scorer = settings.objective.build()

    @property
    def codes(self) -> int:
        return self.codec.codes

    def connect(self, dim: int) -> None:
        """Nothing of its own: codes are embedded and scored by the model's vocabulary."""

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        label, where = self.label_of(payload), places(self.size_of(payload))
        return [Span(payload.reshape(-1), payload.size, label, loss=item.loss, columns=where)]

    def objective(self, logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"]) -> Loss:
        return self.scorer.score(logits, targets)

    def choose(self, logits: Float[Tensor, "views V"], generator: torch.Generator, left: float) -> int:
        return int(self.choose_each(logits[None], [generator], left))

    def choose_each(
        self, logits: Float[Tensor, "B views V"], generators: Sequence[torch.Generator], left: float
    ) -> Int[Tensor, " B"]:
        views = torch.log_softmax(logits.cpu().double(), dim=-1)
        mixed = views[:, 0]
        if self.settings.guidance.within(left):
            mixed = self.settings.guidance.mix(list(views.unbind(dim=1)))
        mixed = mixed.masked_fill(views[:, 0] == -torch.inf, -torch.inf)  # where -inf was taken from -inf
        return drawn(mixed, self.settings.temperature, self.settings.top_p, generators)


def drawn(
    logits: Float[Tensor, "B V"], temperature: float, top_p: float, generators: Sequence[torch.Generator]
) -> Int[Tensor, " B"]:
    """An id of each row, in double precision on the CPU: of the likeliest that have ``top_p`` together; 0 is greedy."""
    if temperature == 0:
        return logits.argmax(dim=1)
    share = torch.softmax(logits / temperature, dim=1)
    ordered, index = share.sort(dim=1, descending=True)
    kept = ordered.cumsum(dim=1) - ordered < top_p
    return index.gather(1, draw(ordered * kept, generators)[:, None])[:, 0]
