"""The KL bottleneck: a Gaussian around each latent, pulled towards the standard one (paper, section 4.1)."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from transfuse_pictures.codec import bound_of

from transfuse_image.codecs.autoencoder_codec import Autoencoder, AutoencoderSettings
from transfuse_image.losses.terms import ImageLoss, Weight


class KLLoss(ImageLoss):
    """Weights of the terms, with a divergence."""

    kl: Weight = 1e-6
    """Of the KL divergence, summed over an image's latent (paper: 1e-6)."""


class KLSettings(AutoencoderSettings):
    """A Gaussian bottleneck."""

    channels: int = Field(4, ge=1, le=256)
    """Of the latent."""
    loss: KLLoss = KLLoss()  # type: ignore[reportIncompatibleVariableOverride]
    """Weights of the training's terms."""


def split_moments(moments: Float[Tensor, "B 2c h w"]) -> tuple[Tensor, Tensor]:
    """Mean and log-variance, the latter bounded so that its exponential is."""
    mean, log_variance = moments.chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def divergence(mean: Float[Tensor, "B ..."], log_variance: Float[Tensor, "B ..."]) -> Float[Tensor, ""]:
    """KL(N(mean, variance) ‖ N(0, 1)) in nats, summed over an image's latent, mean over images."""
    each = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return each.flatten(1).sum(dim=1).mean()


class KLCodec(Autoencoder):
    """Payloads are the Gaussians' means, normalised by statistics measured a channel and kept with it."""

    settings: KLSettings
    mean: Tensor
    std: Tensor

    def __init__(self, settings: KLSettings) -> None:
        super().__init__(settings)
        self.channels, self.moments = settings.channels, 2 * settings.channels

    def make(self, image_channels: int) -> None:
        super().make(image_channels)
        self.register_buffer("mean", torch.zeros(self.channels))
        self.register_buffer("std", torch.ones(self.channels))

    def bottleneck(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        mean, log_variance = split_moments(moments)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        return mean + (0.5 * log_variance).exp() * noise, {"kl": divergence(mean, log_variance)}

    def settle(self, moments: Tensor) -> dict[str, Any]:
        latents, _ = split_moments(moments)
        self.mean.copy_(latents.mean(dim=(0, 2, 3)))
        # A channel that never varies stays near 0 rather than being divided by no spread at all.
        self.std.copy_(latents.std(dim=(0, 2, 3), correction=0).clamp(min=1e-4))
        normal = (latents - self.mean[:, None, None]) / self.std[:, None, None]
        return {"bound": bound_of(normal.cpu().numpy())}

    @property
    def bound(self) -> float:  # type: ignore[override]
        return float(self._facts["bound"])

    def encode(self, raw: np.ndarray) -> np.ndarray:
        latents, _ = split_moments(self._moments(raw))
        return ((latents - self.mean[:, None, None]) / self.std[:, None, None])[0].cpu().numpy()

    def keep(self, raw: np.ndarray) -> np.ndarray:
        """What packed stores keep: mean and log-variance of the Gaussian of the normalised latent, ``[2c, ...]``."""
        latents, log_variance = split_moments(self._moments(raw))
        normal = (latents - self.mean[:, None, None]) / self.std[:, None, None]
        spread = log_variance - 2 * self.std[:, None, None].log()
        return torch.cat([normal, spread], dim=1)[0].cpu().numpy()

    def kept(self, stored: np.ndarray) -> np.ndarray:
        """The mean of what ``keep`` gave: what ``encode`` gives."""
        return stored[: self.channels]

    def decode(self, payload: np.ndarray) -> np.ndarray:
        latents = torch.from_numpy(np.asarray(payload, np.float32)).to(self.device)
        return self._image((latents * self.std[:, None, None] + self.mean[:, None, None])[None])
