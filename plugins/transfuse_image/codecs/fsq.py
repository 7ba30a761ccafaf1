"""The FSQ bottleneck: each channel rounded to a few levels, no codebook to learn (arXiv 2309.15505)."""

import math
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator
from torch import Tensor

from transfuse_image.codecs.autoencoder_codec import AutoencoderSettings
from transfuse_image.codecs.quantised import QuantisedAutoencoder


class FSQSettings(AutoencoderSettings):
    """A bottleneck of rounded channels."""

    levels: tuple[Annotated[int, Field(ge=3, le=64)], ...] = Field((8, 6, 5), min_length=1, max_length=16)
    """Of each channel; codes are all their combinations."""

    @field_validator("levels")
    @classmethod
    def _few_codes(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if math.prod(levels) > 1_000_000:
            raise ValueError(f"make {math.prod(levels):,} codes; at most 1,000,000")
        return levels


class FSQCodec(QuantisedAutoencoder):
    """The combination of rounded channels is the code (vector-quantize-pytorch)."""

    settings: FSQSettings

    def __init__(self, settings: FSQSettings) -> None:
        super().__init__(settings)
        self.codes = math.prod(settings.levels)
        self.channels = self.moments = len(settings.levels)

    def make(self, image_channels: int) -> None:
        from vector_quantize_pytorch import FSQ

        super().make(image_channels)
        self.quantizer: Any = FSQ(levels=list(self.settings.levels))

    def bottleneck(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.quantizer(moments)[0], {}

    def codes_of(self, moments: Tensor) -> Tensor:
        return self.quantizer(moments)[1].long()

    def latents_of(self, codes: Tensor) -> Tensor:
        return self.quantizer.indices_to_codes(codes)
