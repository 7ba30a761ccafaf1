"""Images as codes that are hidden and filled in, many at a time: the Show-o side of the comparison.

A span modality: its positions see each other, and its own table and head stand in for the vocabulary.
Letters: ``n = h·w`` codes of an image, ``V`` codes of the codebook, ``D`` model width.
"""

from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from transfuse.plugin import (
    Chosen,
    Codec,
    Evaluate,
    GuidanceSettings,
    Item,
    Loss,
    PartOf,
    Settings,
    Span,
    SpanModality,
)
from transfuse_pictures.places import places

from transfuse_vq.masked_id import MaskedId
from transfuse_vq.maskgit import MaskGIT
from transfuse_vq.modality import CodeGrid


class MaskedVQSettings(Settings):
    """Codes hidden and filled in."""

    fit_by = ("codec",)
    sampled_by = ("sampler", "guidance")

    codec: Annotated[Chosen[Codec], PartOf("codec")] = Field(default={"name": "vq"}, validate_default=True)
    """Pixels to codes and back."""
    objective: Annotated[Chosen[MaskedId], PartOf("objective")] = Field(
        default={"name": "masked-id"}, validate_default=True
    )
    """Which codes are hidden, and how those are scored."""
    sampler: Annotated[Chosen[MaskGIT], PartOf("sampler")] = Field(
        default={"name": "maskgit"}, validate_default=True
    )
    """How codes are filled in."""
    guidance: GuidanceSettings = GuidanceSettings()
    """Of logits; its interval is one of the share of codes hidden."""


class MaskedVQ(CodeGrid, SpanModality):
    clean_time = 0.0

    def __init__(self, settings: MaskedVQSettings, name: str) -> None:
        super().__init__(settings.codec, settings.guidance, name)
        self.settings = settings
        self.masking = settings.objective.build()
        self.sampler = settings.sampler.build()

    @property
    def mask(self) -> int:
        """The id that stands for a hidden code."""
        return self.codec.codes

    def connect(self, dim: int) -> None:
        self.table = nn.Embedding(self.codec.codes + 1, dim)
        nn.init.normal_(self.table.weight, std=dim**-0.5)
        self.out = nn.Linear(dim, self.codec.codes, bias=False)

    # -- layout

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        label, loss = self.label_of(payload), item.loss and item.noised
        where = places(self.size_of(payload))
        return [Span(payload, payload.size, label, noised=item.noised, loss=loss, columns=where)]

    # -- in the model

    def corrupt(
        self, clean: Int[Tensor, "B h w"], generators: list[torch.Generator], is_context: list[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self.masking.corrupt(clean, generators, is_context, self.mask)

    def embed(self, x_t: Int[Tensor, "B h w"], t: Float[Tensor, " B"]) -> tuple[Float[Tensor, "B n D"], Any]:
        return self.table(x_t.flatten(1)), None

    def head(
        self, hidden: Float[Tensor, "B n D"], state: Any, t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B n V"]:
        return self.out(hidden)

    def objective(self, prediction: Tensor, target: Tensor, t: Float[Tensor, " B"]) -> Loss:
        return self.masking.score(prediction, target)

    def sample(
        self, evaluate: Evaluate, label: str, generators: list[torch.Generator]
    ) -> Int[Tensor, "B h w"]:
        denoise = self.settings.guidance.denoiser(evaluate, self.noise_share)
        shape, device = self.blank(label).shape, self.table.weight.device
        return self.sampler.sample(denoise, self.masking, shape, generators, self.mask, device)

    def flops(self, span_length: int) -> float:
        """The head's alone: a table is looked up."""
        return 2.0 * span_length * self.out.weight.numel()
