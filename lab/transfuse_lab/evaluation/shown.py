"""Which images of an evaluation are shown, and beside which real ones: an even spread, none chosen by hand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from transfuse.metrics import Evaluation

from transfuse_lab.evaluation.classifier import classifier_of
from transfuse_lab.evaluation.metrics import captions_are_classes

SHOWN = 40  # of a split


@dataclass(frozen=True)
class Drawn:
    """An image that the model drew, beside a real one of the same caption; ``[channels, height, width]``.

    split: where the caption is from. read_as: what the classifier reads in it, None where none judged.
    """

    prompt: str
    image: np.ndarray
    real: np.ndarray
    split: Literal["train", "heldout"]
    read_as: str | None = None


def shown(evaluation: Evaluation) -> list[Drawn]:
    """Drawn images of held-out prompts, then of those that were trained on."""
    return [*_heldout(evaluation), *_trained_on(evaluation)]


def _heldout(evaluation: Evaluation) -> Iterator[Drawn]:
    read_as: list[str | None] = [None] * len(evaluation.prompts)
    if captions_are_classes(evaluation):
        judge = classifier_of(evaluation.train_images, evaluation.train_captions)
        read_as = list(judge.read(evaluation.generated))
    real = dict(zip(evaluation.heldout_captions, evaluation.heldout_images, strict=True))
    for i in prompt_spread(evaluation.prompts, SHOWN):
        prompt = evaluation.prompts[i]
        yield Drawn(prompt, evaluation.generated[i], real[prompt], "heldout", read_as[i])


def _trained_on(evaluation: Evaluation) -> Iterator[Drawn]:
    real = dict(zip(evaluation.train_captions, evaluation.train_images, strict=True))
    for i in evenly(len(evaluation.seen_prompts), SHOWN):
        prompt = evaluation.seen_prompts[i]
        yield Drawn(prompt, evaluation.seen_generated[i], real[prompt], "train")


def prompt_spread(prompts: Sequence[str], most: int) -> list[int]:
    """Places of prompts to show: as many of each different one as fit, else an even spread of them."""
    by_prompt: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_prompt.setdefault(prompt, []).append(i)
    each = max(1, most // len(by_prompt))
    chosen = sorted(i for places in by_prompt.values() for i in places[:each])
    return [chosen[place] for place in evenly(len(chosen), most)]


def evenly(count: int, most: int) -> list[int]:
    """At most so many places of 0 … count − 1, both ends among them."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()
