"""Square blocks of pixels in their principal components, or as the nearest of learnt block codes: linear, fit at once.

Nothing here is trained by gradient, so latents and codes of the same images have one encoder and ceilings that are
high and alike: what a comparison of the two wants.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from transfuse.plugin import Report, Settings, TransfuseError
from transfuse_pictures.codec import PictureCodec, bound_of

from transfuse_image.codecs.quantised import codebook_use
from transfuse_image.codecs.raw_images import check_image, training_images

BUSY = 0.02
"""How far a pixel of a block must be from the block's mean, or the codebook is not learnt from it."""
PLAIN, LEARNT = 500, 150_000
"""Blocks that the codebook is learnt from, at most: without anything in them, and with."""


class BlocksSettings(Settings):
    """Which blocks, and how much of them is kept."""

    block: int = Field(4, ge=1, le=64)
    """Pixels of a block's side."""
    components: int = Field(16, ge=1, le=4096)
    """Principal components that are kept of a block; at most the pixels it has, times the channels."""


class BlockCodesSettings(BlocksSettings):
    """The same, and a codebook."""

    codes: int = Field(1024, ge=2, le=65_536)
    """Size of the codebook (k-means of components)."""


class BlocksCodec(PictureCodec):
    """Latents ``[components, h, w]``: principal components of each block, all over one scale, their root mean square.

    So a squared error of latents is one of pixels, up to that scale and what the components leave out; and latents
    have the spread of the noise that is added to them.
    """

    settings: BlocksSettings
    mean: Float[Tensor, " pixels"]
    basis: Float[Tensor, "components pixels"]

    def __init__(self, settings: BlocksSettings) -> None:
        super().__init__()
        self.settings = settings
        self.channels = settings.components
        self._facts: dict[str, Any] = {}

    def fit(self, raws: Sequence[np.ndarray], seed: int, report: Report, effort: float = 1.0) -> None:
        images = training_images(raws, report)
        self.grid(images[0].shape)
        channels, block = images[0].shape[0], self.settings.block
        self._make(channels)
        pixels = blocks(torch.from_numpy(np.stack(images)), block).flatten(0, -2).double()
        mean = pixels.mean(0)
        spread = (pixels - mean).T @ (pixels - mean) / len(pixels)
        variances, vectors = (x.flip(-1) for x in torch.linalg.eigh(spread))
        # An eigenvector's sign is arbitrary: its largest entry is made positive.
        signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        self.mean.copy_(mean)
        self.basis.copy_((vectors * signs).T[: self.channels])
        scale = float(variances[: self.channels].mean().clamp(min=1e-12).sqrt())
        latents = ((pixels - mean) @ self.basis.double().T / scale).float()
        self.bound = bound_of(latents.numpy())
        kept = float(variances[: self.channels].sum() / variances.sum().clamp(min=1e-12))
        self._facts = {"channels": channels, "scale": scale, "bound": self.bound, "variance_kept": kept}
        self._settle(latents, pixels, seed, effort)
        error = np.mean([np.square(self.decode(self.encode(image)) - image).mean() for image in images[:500]])
        self._facts["reconstruction"] = float(error)
        use = "".join(f", {k} {self._facts[k]:.3g}" for k in ("usage", "perplexity") if k in self._facts)
        report(
            f"blocks of {block}x{block}: {self.channels} components keep {kept:.2%} of the variance, mean squared "
            f"error {error:.5f}{use}"
        )

    def _settle(
        self, latents: Float[Tensor, "n d"], pixels: Float[Tensor, "n pixels"], seed: int, effort: float
    ) -> None:
        """What is learnt of the components of all blocks: nothing, unless there is a codebook."""

    def _make(self, channels: int) -> None:
        pixels = channels * self.settings.block**2
        if self.settings.components > pixels:
            raise TransfuseError(
                f"blocks of {self.settings.block}x{self.settings.block} pixels and {channels} channels have {pixels} "
                f"components, not {self.settings.components}: set codec.components={pixels}"
            )
        self.image_channels = channels
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("basis", torch.zeros(self.channels, pixels))

    def restore(self, facts: dict[str, Any]) -> None:
        self._facts, self.bound = dict(facts), float(facts["bound"])
        self._make(int(facts["channels"]))

    def facts(self) -> dict[str, Any]:
        return self._facts

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        block = self.settings.block
        if shape[1] % block or shape[2] % block:
            raise TransfuseError(
                f"an image of {shape[1]}x{shape[2]} does not divide into blocks of {block}x{block}"
            )
        return shape[1] // block, shape[2] // block

    def encode(self, raw: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self._latents(raw).movedim(-1, 0).cpu().numpy())

    def decode(self, payload: np.ndarray) -> np.ndarray:
        return self._image(
            torch.tensor(np.asarray(payload, np.float32), device=self.mean.device).movedim(0, -1)
        )

    def _latents(self, raw: np.ndarray) -> Float[Tensor, "h w d"]:
        image = check_image(raw, self.image_channels)
        self.grid(image.shape)
        pixels = blocks(torch.tensor(image, device=self.mean.device)[None], self.settings.block)[0]
        return (pixels - self.mean) @ self.basis.T / self._facts["scale"]

    def _image(self, latents: Float[Tensor, "h w d"]) -> np.ndarray:
        pixels = latents * self._facts["scale"] @ self.basis + self.mean
        return joined(pixels[None], self.settings.block)[0].clamp(0, 1).cpu().numpy()


class BlockCodesCodec(BlocksCodec):
    """Codes ``[h, w]``: the nearest centre, by k-means, of a block's components."""

    settings: BlockCodesSettings  # type: ignore[reportIncompatibleVariableOverride]
    centres: Float[Tensor, "codes components"]

    def __init__(self, settings: BlockCodesSettings) -> None:
        super().__init__(settings)
        self.codes = settings.codes

    def _make(self, channels: int) -> None:
        super()._make(channels)
        self.register_buffer("centres", torch.zeros(self.settings.codes, self.channels))

    def _settle(
        self, latents: Float[Tensor, "n d"], pixels: Float[Tensor, "n pixels"], seed: int, effort: float
    ) -> None:
        from sklearn.cluster import MiniBatchKMeans

        flat = pixels.unflatten(1, (self.image_channels, -1))
        busy = ((flat - flat.mean(2, keepdim=True)).abs().amax((1, 2)) > BUSY).numpy()
        rng = np.random.default_rng(seed)
        found = latents.numpy()
        some, plain = found[busy], found[~busy][:PLAIN]
        some = some[rng.permutation(len(some))[:LEARNT]]
        learnt = np.concatenate([some, plain])
        codes = self.settings.codes
        if not effort:  # made to be looked at: blocks themselves stand for centres
            self.centres.copy_(torch.from_numpy(found[np.arange(codes) % len(found)]))
            self._facts |= codebook_use(self._nearest(latents), codes)
            return
        if len(learnt) < codes:
            raise TransfuseError(
                f"{len(learnt)} blocks of the training images are too few for {codes} codes: set codec.codes lower"
            )
        means = MiniBatchKMeans(codes, batch_size=4096, n_init="auto", random_state=seed % 2**32, max_iter=40)
        self.centres.copy_(torch.from_numpy(means.fit(learnt).cluster_centers_))
        self._facts |= codebook_use(self._nearest(latents), codes)

    def _nearest(self, latents: Float[Tensor, "... d"]) -> Int[Tensor, "..."]:
        return torch.cdist(latents.flatten(0, -2), self.centres).argmin(-1).view(latents.shape[:-1])

    def encode(self, raw: np.ndarray) -> np.ndarray:
        return self._nearest(self._latents(raw)).cpu().numpy()

    def decode(self, payload: np.ndarray) -> np.ndarray:
        return self._image(
            self.centres[torch.from_numpy(np.asarray(payload, np.int64)).to(self.centres.device)]
        )


class BlockCentresCodec(BlockCodesCodec):
    """Latents ``[components, h, w]``: the centres themselves. What quantising alone costs, and not the objective.

    Decoded is the nearest centre, so that its pictures are those of the codes.
    """

    def __init__(self, settings: BlockCodesSettings) -> None:
        super().__init__(settings)
        self.codes = 0

    def encode(self, raw: np.ndarray) -> np.ndarray:
        centres = self.centres[self._nearest(self._latents(raw))]
        return np.ascontiguousarray(centres.movedim(-1, 0).cpu().numpy())

    def decode(self, payload: np.ndarray) -> np.ndarray:
        latents = torch.tensor(np.asarray(payload, np.float32), device=self.centres.device).movedim(0, -1)
        return self._image(self.centres[self._nearest(latents)])


def blocks(images: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n rows columns pixels"]:
    """Each block's pixels, channel by channel; `joined` is the inverse."""
    n, c, h, w = images.shape
    parts = images.view(n, c, h // side, side, w // side, side)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(n, h // side, w // side, -1)


def joined(parts: Float[Tensor, "n rows columns pixels"], side: int) -> Float[Tensor, "n c h w"]:
    """The images of these blocks."""
    n, rows, columns, pixels = parts.shape
    c = pixels // side**2
    whole = parts.view(n, rows, columns, c, side, side).permute(0, 3, 1, 4, 2, 5)
    return whole.reshape(n, c, rows * side, columns * side)
