"""The VQ bottleneck: a codebook learnt by moving averages (vector-quantize-pytorch)."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from transfuse_image.codecs.autoencoder_codec import AutoencoderSettings
from transfuse_image.codecs.quantised import QuantisedAutoencoder
from transfuse_image.losses.terms import ImageLoss, Weight


class VQLoss(ImageLoss):
    """Weights of the terms, with a commitment."""

    commitment: Weight = 0.25
    """Of the encoder's squared distance to its codes (paper, section 4.1: 0.25)."""


class VQSettings(AutoencoderSettings):
    """A codebook as bottleneck."""

    codes: int = Field(256, ge=2, le=1_000_000)
    """Size of the codebook."""
    channels: int = Field(4, ge=1, le=256)
    """Of a code's vector."""
    loss: VQLoss = VQLoss()  # type: ignore[reportIncompatibleVariableOverride]
    """Weights of the training's terms."""


class VQCodec(QuantisedAutoencoder):
    """The nearest of the codebook's vectors; codes that die out are taken up again from the data."""

    settings: VQSettings

    def __init__(self, settings: VQSettings) -> None:
        super().__init__(settings)
        self.codes = settings.codes
        self.channels = self.moments = settings.channels

    def make(self, image_channels: int) -> None:
        from loguru import logger
        from vector_quantize_pytorch import VectorQuantize

        logger.disable("vector_quantize_pytorch")  # it warns of few vectors, as small data and a trial have

        super().make(image_channels)
        self.quantizer: Any = VectorQuantize(
            dim=self.channels,
            codebook_size=self.codes,
            commitment_weight=1.0,  # it is weighed with the other terms
            accept_image_fmap=True,
            kmeans_init=True,
            threshold_ema_dead_code=1,
            decay=0.95,
            sync_codebook=False,  # one rank trains it while others wait: it is not to ask them for theirs
            sync_kmeans=False,
        )

    def bottleneck(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        latents, _, commitment = self.quantizer(moments)
        return latents, {"commitment": commitment.sum()}

    def codes_of(self, moments: Tensor) -> Tensor:
        return self.quantizer(moments)[1]

    def latents_of(self, codes: Tensor) -> Tensor:
        return self.quantizer.codebook[codes].movedim(-1, 1)
