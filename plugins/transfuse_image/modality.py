"""Images as a modality: latents in patches, noised, and predicted a span at a time (paper, section 3)."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transfuse.plugin import (
    Chosen,
    Codec,
    Column,
    Evaluate,
    GridModality,
    GuidanceSettings,
    Item,
    Loss,
    PartOf,
    Sampler,
    Settings,
    Span,
    SpanModality,
    SpanObjective,
    TransfuseError,
    clock,
)
from transfuse_pictures.places import PLACES, places

from transfuse_image.patchers.patcher import Patcher


class ImageSettings(Settings):
    """The parts an image modality is made of."""

    fit_by = ("codec",)
    sampled_by = ("sampler", "guidance")

    codec: Annotated[Chosen[Codec], PartOf("codec")] = Field(default={"name": "kl"}, validate_default=True)
    """Pixels to latents and back."""
    patcher: Annotated[Chosen[Patcher], PartOf("patcher")] = Field(
        default={"name": "linear"}, validate_default=True
    )
    """Latents to the model's width and back."""
    objective: Annotated[Chosen[SpanObjective], PartOf("objective")] = Field(
        default={"name": "ddpm"}, validate_default=True
    )
    """What is predicted of a noised latent."""
    sampler: Annotated[Chosen[Sampler], PartOf("sampler")] = Field(
        default={"name": "ddim"}, validate_default=True
    )
    """How latents are drawn."""
    guidance: GuidanceSettings = GuidanceSettings()
    """Of the predictions; its interval is one of the share of noise."""


class Image(GridModality, SpanModality):
    patcher: Patcher

    def __init__(self, settings: ImageSettings, name: str) -> None:
        super().__init__(name, settings.codec.build())
        self.settings = settings
        if self.codec.codes:
            raise TransfuseError(
                f"codec {settings.codec.name!r} gives codes, not latents; use codec kl or pixel, or "
                f"the modality image_vq"
            )
        self.diffusion = settings.objective.build()
        self.sampler = settings.sampler.build()
        self.clean_time = self.diffusion.clean_time
        self.patch = settings.patcher.settings.patch
        self.views = settings.guidance.views_dropped

    # -- before the model

    def connect(self, dim: int) -> None:
        self.patcher = self.settings.patcher.build(shape=(self.codec.channels, *self.sizes[0]), dim=dim)

    # -- codec and layout

    def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
        n, label = self.length_of(payload), self.label_of(payload)
        where = places([side // self.patch for side in self.size_of(payload)])
        return [Span(payload, n, label, noised=item.noised, loss=item.loss and item.noised, columns=where)]

    def columns(self) -> Mapping[str, Column]:
        return PLACES

    # -- in the model

    def corrupt(
        self, clean: Float[Tensor, "B c h w"], generators: list[torch.Generator], is_context: list[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self.diffusion.corrupt(clean, generators, is_context)

    def embed(
        self, x_t: Float[Tensor, "B c h w"], t: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B n D"], Any]:
        return self.patcher.down(x_t, clock(self.noise_share(t)))

    def head(
        self, hidden: Float[Tensor, "B n D"], state: Any, t: Float[Tensor, " B"]
    ) -> Float[Tensor, "B c h w"]:
        return self.patcher.up(hidden, state, clock(self.noise_share(t)))

    def objective(self, prediction: Tensor, target: Tensor, t: Float[Tensor, " B"]) -> Loss:
        return self.diffusion.score(prediction, target, t)

    def sample(
        self, evaluate: Evaluate, label: str, generators: list[torch.Generator]
    ) -> Float[Tensor, "B c h w"]:
        shape = self.blank(label).shape
        device = next(self.patcher.parameters()).device
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)

        denoise = self.settings.guidance.denoiser(evaluate, self.noise_share)
        return self.sampler.sample(denoise, self.diffusion, noise, generators, self.codec.bound)

    def noise_share(self, t: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        return self.diffusion.share(t)

    def flops(self, span_length: int) -> float:
        return self.patcher.flops(span_length)
