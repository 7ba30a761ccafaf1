"""What an evaluation hands its metrics, and what a metric gives back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """Everything measured from one model on one data set; arrays, no model.

    Images are float32 in [0, 1], ``[n, channels, height, width]``.

    train_images, train_captions: the real training pairs (for extractors trained on them).
    heldout_images, heldout_captions: the real held-out pairs.
    prompts, generated: the caption each generated image was asked to show, and the image.
    predicted_captions: greedy captions of ``heldout_images``, in their order.
    reconstructions: ``heldout_images`` through the image codec and back.
    caption_nats: total negative log-likelihood of the held-out captions given their images, in nats.
    caption_tokens, caption_bytes: how many tokens and UTF-8 bytes that total covers.
    seen_prompts, seen_generated: the same as ``prompts`` and ``generated`` for captions that were trained
        on; empty where captions name classes, whose prompts are all seen.
    """

    train_images: np.ndarray
    train_captions: list[str]
    heldout_images: np.ndarray
    heldout_captions: list[str]
    prompts: list[str]
    generated: np.ndarray
    predicted_captions: list[str]
    reconstructions: np.ndarray
    caption_nats: float
    caption_tokens: int
    caption_bytes: int
    seen_prompts: list[str] = field(default_factory=list)
    seen_generated: np.ndarray = field(default_factory=lambda: np.empty((0, 1, 1, 1), np.float32))


class Metric(ABC):
    """A pure function of an evaluation."""

    name: str

    @abstractmethod
    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        """Named figures, such as ``{"generation_accuracy": 0.97}``."""
