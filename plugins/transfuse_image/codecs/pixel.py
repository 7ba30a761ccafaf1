"""No autoencoder: the pixels themselves, for small images and for models without one (Tuna-2)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transfuse.plugin import Report, Settings
from transfuse_pictures.codec import PictureCodec

from transfuse_image.codecs.raw_images import check_image, check_images


class PixelSettings(Settings):
    """Pixels need no settings."""


class PixelCodec(PictureCodec):
    """Pixels scaled to [-1, 1]."""

    bound = 1.0

    def __init__(self, settings: PixelSettings) -> None:
        super().__init__()

    def fit(self, raws: Sequence[np.ndarray], seed: int, report: Report, effort: float = 1.0) -> None:
        self.channels = self.image_channels = check_images(raws)

    def restore(self, facts: dict[str, Any]) -> None:
        self.channels = self.image_channels = int(facts["channels"])

    def facts(self) -> dict[str, Any]:
        return {"channels": self.channels}

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[1], shape[2]

    def encode(self, raw: np.ndarray) -> np.ndarray:
        return check_image(raw, self.channels) * 2 - 1

    def decode(self, payload: np.ndarray) -> np.ndarray:
        return ((payload + 1) / 2).clip(0, 1).astype(np.float32)
