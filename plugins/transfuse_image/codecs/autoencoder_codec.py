"""A codec that is an autoencoder trained here: what its bottlenecks share."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transfuse.plugin import FitContext, InvalidSettings, Key, Report, Settings, TransfuseError
from transfuse_pictures.codec import PictureCodec

from transfuse_image.codecs.autoencoder import decoder, encoder
from transfuse_image.codecs.autoencoder_training import AutoencoderTraining
from transfuse_image.codecs.raw_images import check_image, training_images
from transfuse_image.losses.patch_gan import CriticSettings
from transfuse_image.losses.perceptual import FeatureSettings
from transfuse_image.losses.terms import ImageLoss

MEASURED = 256  # images on which the reconstruction error is measured


class AutoencoderSettings(Settings):
    """What the autoencoders share, whatever their bottleneck."""

    down: int = Field(2, ge=1, le=64)
    """Pixels along one side of a latent pixel."""
    stem: int = Field(1, ge=1, le=64)
    """Those of them that the first layer takes as channels."""
    width: int = Field(32, ge=8, le=1024, multiple_of=8)
    """Of the layers at the largest size."""
    growth: int = Field(1, ge=1, le=4)
    """How much wider the layers get with each halving."""
    steps: int = Field(600, ge=1, le=10_000_000)
    """Of the training."""
    batch: int = Field(64, ge=1, le=65_536)
    """Images a step."""
    lr: float = Field(2e-3, gt=0, le=1)
    """The training's learning rate."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the training's convolutions; weights, losses and what is encoded stay float32."""
    loss: ImageLoss = ImageLoss()
    """Weights of the training's terms."""
    features: FeatureSettings = FeatureSettings()
    """The network behind the term perceptual, thrown away after the training."""
    critic: CriticSettings = CriticSettings()
    """The network behind the term gan, thrown away after the training."""

    @model_validator(mode="after")
    def _sizes(self) -> "AutoencoderSettings":
        faults = [
            ((key,), "must be a power of 2, since each stage halves the image")
            for key in ("down", "stem")
            if getattr(self, key) & (getattr(self, key) - 1)
        ]
        if not faults and self.stem > self.down:
            faults = [(("stem",), f"must be at most down = {self.down}, not {self.stem}")]
        if not faults and self.widths[-1] > 8192:
            faults = [(("growth",), f"makes the last layers {self.widths[-1]} wide; at most 8192")]
        if faults:
            raise InvalidSettings(faults)
        return self

    def scaled(self, by: int) -> "AutoencoderSettings | None":
        """A stem of half of it: the layers then work at twice the latent's size, and no larger."""
        if "down" in self.model_fields_set:
            return None
        return self.changed(down=by, stem=self.stem if "stem" in self.model_fields_set else max(1, by // 2))

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the layers at each size, from the image's (or the stem's) to the latent's."""
        halvings = (self.down // self.stem).bit_length() - 1
        return tuple(self.width * self.growth**i for i in range(halvings + 1))


class Autoencoder(PictureCodec):
    """Layers, training, checks. A bottleneck says what stands between encoder and decoder.

    channels: of what the decoder takes. moments: channels that the encoder puts out.
    """

    encoder: nn.Sequential
    decoder: nn.Sequential
    moments: int
    does_not: Mapping[str, str] = {
        "round trip": "what an autoencoder loses is a fact of its training: reconstruction"
    }

    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.settings = settings
        self._facts: dict[str, Any] = {}

    @abstractmethod
    def bottleneck(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Latents for the decoder, and the bottleneck's own terms of the loss, from the encoder's output."""

    @abstractmethod
    def settle(self, moments: Tensor) -> dict[str, Any]:
        """Facts measured on the encoder's output for all training images, once trained."""

    def make(self, image_channels: int) -> None:
        """The layers, for images of so many channels."""
        s = self.settings
        self.image_channels = image_channels
        self.encoder = encoder(image_channels, s.widths, self.moments, s.stem)
        self.decoder = decoder(image_channels, s.widths, self.channels, s.stem)
        self.to(memory_format=torch.channels_last)  # type: ignore[reportCallIssue]

    def fit(
        self,
        raws: Sequence[np.ndarray],
        seed: int,
        report: Report,
        effort: float = 1.0,
        context: FitContext = FitContext(),  # noqa: B008
    ) -> None:
        images = np.stack(training_images(raws, report))
        self.grid(images[0].shape)
        key, s, steps = Key(seed), self.settings, round(self.settings.steps * effort)
        with torch.random.fork_rng(devices=[]):  # layers and codebooks draw from the global state
            torch.default_generator.manual_seed(key.number("codec weights"))
            self.make(images.shape[1])
            training = AutoencoderTraining(self, torch.from_numpy(images), key, steps, context.device)
            training.run(report, context)
            self.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[reportCallIssue]
            seen = torch.from_numpy(images if steps else images[: s.batch])
            with torch.no_grad():
                parts = (part.to(context.device) * 2 - 1 for part in seen.split(s.batch))
                moments = torch.cat([self.encoder(part) for part in parts])
                self._facts = {"channels": images.shape[1], **self.settle(moments), "terms": training.terms}
        if not steps:
            return
        error = np.mean([np.square(self.decode(self.encode(i)) - i).mean() for i in images[:MEASURED]])
        self._facts["reconstruction"] = float(error)
        use = "".join(f", {k} {self._facts[k]:.3g}" for k in ("usage", "perplexity") if k in self._facts)
        weights = sum(p.numel() for p in self.parameters())
        report(f"autoencoder of {weights:,} weights: mean squared error {error:.5f}{use}")

    def restore(self, facts: dict[str, Any]) -> None:
        self._facts = dict(facts)
        with torch.random.fork_rng(devices=[]):
            self.make(int(facts["channels"]))
        self.requires_grad_(False).eval()

    def facts(self) -> dict[str, Any]:
        return self._facts

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        down = self.settings.down
        if shape[1] % down or shape[2] % down:
            raise TransfuseError(
                f"an image of {shape[1]}x{shape[2]} does not divide by the codec's down={down}"
            )
        return shape[1] // down, shape[2] // down

    @property
    def device(self) -> torch.device:
        """Where its weights are: raw data and payloads are the CPU's, and go there and back."""
        return next(self.encoder.parameters()).device

    def _moments(self, raw: np.ndarray) -> Tensor:
        image = check_image(raw, self.image_channels)
        self.grid(image.shape)
        with torch.no_grad():
            return self.encoder(torch.tensor(image, device=self.device)[None] * 2 - 1)

    def _image(self, latents: Tensor) -> np.ndarray:
        with torch.no_grad():
            return ((self.decoder(latents)[0] + 1) / 2).clamp(0, 1).cpu().numpy()
