"""Image codecs: pixels as they are, and one autoencoder with a KL or a vector-quantised bottleneck."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn
from transfuse.codec import Codec
from transfuse.errors import RawError, TransfuseError
from transfuse.modality import Report
from transfuse.parts import Settings
from transfuse.randomness import Key

from transfuse_image.autoencoder import decoder, encoder


def check_image(raw: Any, channels: int | None = None) -> np.ndarray:
    """A float image ``[c, h, w]`` in [0, 1], or an error that says what it is instead."""
    if not isinstance(raw, np.ndarray):
        raise TransfuseError(
            f"an image must be a numpy array [channels, height, width], not {type(raw).__name__}"
        )
    if raw.ndim != 3:
        raise TransfuseError(
            f"an image must have 3 axes [channels, height, width], not {raw.ndim}: shape {raw.shape}"
        )
    if raw.dtype.kind != "f":
        raise TransfuseError(f"an image must be of floats in [0, 1], not {raw.dtype}; divide by 255")
    if not raw.size:
        raise TransfuseError(f"the image is empty: shape {raw.shape}")
    if not np.isfinite(raw).all():
        raise TransfuseError("the image holds NaN or Inf; mend or drop the document")
    if channels is not None and raw.shape[0] != channels:
        raise TransfuseError(f"the image has {raw.shape[0]} channels, and the others have {channels}")
    if raw.min() < -1e-3 or raw.max() > 1 + 1e-3:
        raise TransfuseError(f"image values must lie in [0, 1], not [{raw.min():.3g}, {raw.max():.3g}]")
    return raw.astype(np.float32, copy=False)


def check_images(raws: Sequence[Any]) -> list[np.ndarray]:
    """All of a codec's training images. Raises RawError for one that is none, or has other channels."""
    images: list[np.ndarray] = []
    for number, raw in enumerate(raws):
        try:
            images.append(check_image(raw, images[0].shape[0] if images else None))
        except TransfuseError as error:
            raise RawError(number, str(error)) from error
    return images


class PixelSettings(Settings):
    """Pixels need no settings."""


class PixelCodec(Codec):
    """No autoencoder: pixels scaled to [-1, 1], for small images."""

    bound = 1.0

    def __init__(self, settings: PixelSettings) -> None:
        super().__init__()

    def fit(self, raws: Sequence[np.ndarray], seed: int, report: Report, effort: float = 1.0) -> None:
        self.channels = check_images(raws)[0].shape[0]

    def restore(self, facts: dict[str, Any]) -> None:
        self.channels = int(facts["channels"])

    def facts(self) -> dict[str, Any]:
        return {"channels": self.channels}

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[1], shape[2]

    def encode(self, raw: np.ndarray) -> np.ndarray:
        return check_image(raw, self.channels) * 2 - 1

    def decode(self, payload: np.ndarray) -> np.ndarray:
        return ((payload + 1) / 2).clip(0, 1).astype(np.float32)


class AutoencoderSettings(Settings):
    """channels: of the latent. down: pixels along one side of a latent pixel. width: of the layers.
    steps, batch, lr: of its training."""

    channels: int = Field(4, ge=1, le=256)
    down: int = Field(2, ge=1, le=64)
    width: int = Field(32, ge=8, le=1024, multiple_of=8)
    steps: int = Field(600, ge=1, le=10_000_000)
    batch: int = Field(64, ge=1, le=65_536)
    lr: float = Field(2e-3, gt=0, le=1)

    @field_validator("down")
    @classmethod
    def _power_of_two(cls, down: int) -> int:
        if down & (down - 1):
            raise ValueError("must be a power of 2, since each stage halves the image")
        return down


class Autoencoder(Codec):
    """What the two bottlenecks share: layers, training loop, checks."""

    def __init__(self, settings: AutoencoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self._facts: dict[str, Any] = {}

    @abstractmethod
    def bottleneck(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(latents for the decoder, the bottleneck's own loss) from the encoder's output."""

    @abstractmethod
    def settle(self, moments: Tensor) -> dict[str, Any]:
        """Facts measured on the encoder's output for all training images, once trained."""

    def make(self, channels: int) -> None:
        """The layers, for images of so many channels."""
        halvings = self.settings.down.bit_length() - 1
        s = self.settings
        self.channels, self.image_channels = s.channels, channels
        self.encoder = encoder(channels, s.width, halvings, self.moments)
        self.decoder = decoder(channels, s.width, halvings, s.channels)

    @property
    def moments(self) -> int:
        """Channels the encoder puts out."""
        return self.settings.channels

    def fit(self, raws: Sequence[np.ndarray], seed: int, report: Report, effort: float = 1.0) -> None:
        images = check_images(raws)
        for number, image in enumerate(images):
            if image.shape != images[0].shape:
                raise RawError(
                    number,
                    f"its shape is {image.shape}, and the first image's {images[0].shape}: an autoencoder is "
                    f"trained on images of one shape; resize them",
                )
        self.grid(images[0].shape)
        x = torch.from_numpy(np.stack(images))
        key, s = Key(seed), self.settings
        with torch.random.fork_rng(devices=[]):  # layers and codebooks draw from the global state
            torch.manual_seed(key.number("codec weights"))
            self.make(x.shape[1])
            self._train(x, key, report, round(s.steps * effort))
        self.requires_grad_(False).eval()
        with torch.no_grad():
            moments = torch.cat([self.encoder(part * 2 - 1) for part in x.split(s.batch)])
            self._facts = {"channels": x.shape[1], **self.settle(moments)}
        error = np.mean([np.square(self.decode(self.encode(i)) - i).mean() for i in images[:256]])
        self._facts["reconstruction"] = float(error)
        report(
            f"autoencoder of {sum(p.numel() for p in self.parameters()):,} weights: mean squared error {error:.5f}"
        )

    def _train(self, x: Float[Tensor, "N c h w"], key: Key, report: Report, steps: int) -> None:
        s = self.settings
        optimizer = torch.optim.AdamW(self.parameters(), lr=s.lr, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, s.lr, total_steps=max(steps, 1) + 1, pct_start=0.1
        )
        generator = key.generator("codec batches")
        self.train()
        for step in range(steps):
            batch = x[torch.randint(len(x), (s.batch,), generator=generator)] * 2 - 1
            latents, own = self.bottleneck(self.encoder(batch), generator)
            out = self.decoder(latents)
            loss = (out - batch).abs().mean() + (out - batch).square().mean() + own
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if (step + 1) % max(1, steps // 5) == 0:
                report(f"autoencoder step {step + 1}/{steps}: loss {float(loss.detach()):.4f}")

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

    def _moments(self, raw: np.ndarray) -> Tensor:
        image = check_image(raw, self.image_channels)
        self.grid(image.shape)
        with torch.no_grad():
            return self.encoder(torch.tensor(image)[None] * 2 - 1)

    def _image(self, latents: Tensor) -> np.ndarray:
        with torch.no_grad():
            return ((self.decoder(latents)[0] + 1) / 2).clamp(0, 1).numpy()


class KLSettings(AutoencoderSettings):
    """kl: weight of the KL term (paper, section 4.1: 1e-6)."""

    kl: float = Field(1e-6, ge=0, le=1)


class KLCodec(Autoencoder):
    """Gaussian bottleneck; latents are its mean, normalised by measured statistics a channel."""

    settings: KLSettings
    mean: Tensor
    std: Tensor

    def make(self, channels: int) -> None:
        super().make(channels)
        self.register_buffer("mean", torch.zeros(self.channels))
        self.register_buffer("std", torch.ones(self.channels))

    @property
    def moments(self) -> int:
        return 2 * self.settings.channels

    def bottleneck(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, log_variance = moments.chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        noise = torch.randn(mean.shape, generator=generator)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        return mean + (0.5 * log_variance).exp() * noise, self.settings.kl * kl.flatten(1).sum(dim=1).mean()

    def settle(self, moments: Tensor) -> dict[str, Any]:
        latents = moments.chunk(2, dim=1)[0]
        self.mean.copy_(latents.mean(dim=(0, 2, 3)))
        # A channel that never varies stays near 0 rather than being divided by no spread at all.
        self.std.copy_(latents.std(dim=(0, 2, 3), correction=0).clamp(min=1e-4))
        normal = (latents - self.mean[:, None, None]) / self.std[:, None, None]
        return {"bound": float(normal.abs().max())}

    @property
    def bound(self) -> float:  # type: ignore[override]
        return float(self._facts["bound"])

    def encode(self, raw: np.ndarray) -> np.ndarray:
        latents = self._moments(raw).chunk(2, dim=1)[0]
        return ((latents - self.mean[:, None, None]) / self.std[:, None, None])[0].numpy()

    def decode(self, payload: np.ndarray) -> np.ndarray:
        latents = torch.from_numpy(np.asarray(payload, np.float32))
        return self._image((latents * self.std[:, None, None] + self.mean[:, None, None])[None])


class VQSettings(AutoencoderSettings):
    """codes: size of the codebook. commitment: weight of the commitment term (paper, section 4.1: 0.25)."""

    codes: int = Field(256, ge=2, le=1_000_000)
    commitment: float = Field(0.25, ge=0, le=10)


class VQCodec(Autoencoder):
    """A codebook learnt by moving averages (vector-quantize-pytorch); payloads are grids of codes."""

    settings: VQSettings

    def __init__(self, settings: VQSettings) -> None:
        super().__init__(settings)
        self.codes = settings.codes

    def make(self, channels: int) -> None:
        from vector_quantize_pytorch import VectorQuantize

        super().make(channels)
        self.quantizer: nn.Module = VectorQuantize(
            dim=self.settings.channels,
            codebook_size=self.settings.codes,
            commitment_weight=self.settings.commitment,
            accept_image_fmap=True,
            kmeans_init=True,
            threshold_ema_dead_code=1,
            decay=0.95,
        )

    def bottleneck(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        latents, _, loss = self.quantizer(moments)
        return latents, loss.sum()

    def settle(self, moments: Tensor) -> dict[str, Any]:
        codes = self.quantizer(moments)[1].flatten()
        share = torch.bincount(codes, minlength=self.codes).double() / codes.numel()
        entropy = -(share * share.clamp(min=1e-12).log()).sum()
        return {"usage": float((share > 0).double().mean()), "perplexity": float(entropy.exp())}

    def encode(self, raw: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.quantizer(self._moments(raw))[1][0].numpy().astype(np.int64)

    def decode(self, payload: np.ndarray) -> np.ndarray:
        codes = torch.from_numpy(np.asarray(payload, np.int64))
        with torch.no_grad():
            latents = self.quantizer.get_output_from_indices(codes[None])  # type: ignore[operator]
        return self._image(latents if latents.shape[1] == self.channels else latents.movedim(-1, 1))
