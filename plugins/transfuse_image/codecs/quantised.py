"""What quantised bottlenecks share: payloads are grids of codes, and how well the codebook is used is a fact."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse_image.codecs.autoencoder_codec import Autoencoder


def codebook_use(codes: Int[Tensor, "..."], size: int) -> dict[str, float]:
    """usage: share of the codebook's codes that occur. perplexity: exp of the entropy of their shares,
    the number of codes that, equally frequent, would say as much."""
    counts = torch.bincount(codes.flatten(), minlength=size).double()
    share = counts / counts.sum()
    entropy = -(share * share.clamp(min=1e-12).log()).sum()
    return {"usage": float((counts > 0).double().mean()), "perplexity": float(entropy.exp())}


class QuantisedAutoencoder(Autoencoder):
    """A grid of codes, 0 … codes-1, between encoder and decoder."""

    @abstractmethod
    def codes_of(self, moments: Float[Tensor, "B d h w"]) -> Int[Tensor, "B h w"]:
        """The codes of the encoder's output."""

    @abstractmethod
    def latents_of(self, codes: Int[Tensor, "B h w"]) -> Float[Tensor, "B d h w"]:
        """What the decoder takes for these codes."""

    def settle(self, moments: Tensor) -> dict[str, Any]:
        return codebook_use(self.codes_of(moments), self.codes)

    def encode(self, raw: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.codes_of(self._moments(raw))[0].cpu().numpy().astype(np.int64)

    def decode(self, payload: np.ndarray) -> np.ndarray:
        codes = torch.from_numpy(np.asarray(payload, np.int64)).to(self.device)[None]
        with torch.no_grad():
            latents = self.latents_of(codes)
        return self._image(latents)
