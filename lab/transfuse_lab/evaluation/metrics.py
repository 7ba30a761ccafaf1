"""What an evaluation measures of generated pictures, of texts, and of what codecs give back."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from transfuse.errors import TransfuseError
from transfuse.metrics import AppliesTo, Evaluation, Figure, Metric

from transfuse_lab.evaluation.classifier import Classifier, classifier_of, share_equal
from transfuse_lab.evaluation.frechet import frechet_distance
from transfuse_lab.evaluation.kernel_distance import kernel_distance
from transfuse_lab.evaluation.own_image import own_image_ranks
from transfuse_lab.evaluation.spread import names, text_of

FEWEST_A_CLASS = 5  # training pictures a caption on average, below which captions are no classes
MOST_JUDGED = 50_000  # training pictures that the classifier learns from
PROMPTED_PICTURES = AppliesTo(given_data="text", want_data="array", want_file=".png", axes=3, one_shape=True)


@dataclass(frozen=True)
class Captioned:
    """Pictures ``[n, channels, height, width]`` and their captions."""

    images: np.ndarray
    captions: list[str]


class GenerationAccuracy(Metric):
    """The share of generated pictures in which the classifier reads the caption they were asked to show.

    With it ``classifier_accuracy``, the same on real held-out pictures: no model can be told from a
    perfect one beyond it. Nothing is measured where captions are no classes (nearly all distinct).
    """

    name = "generation_accuracy"
    applies_to = PROMPTED_PICTURES
    figures = (
        Figure(
            "generation_accuracy", "Generation accuracy", "", "higher", "percent",
            "the share of prompted images in which a classifier, trained on the real training images, "
            "reads the caption they were asked to show",
            "prompted images that show what was asked for",
        ),
        Figure(
            "classifier_accuracy", "Classifier's own accuracy", "", "", "percent",
            "the same classifier on real held-out images: beyond it, generation accuracy says nothing",
        ),
    )  # fmt: skip

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        judge, captions = _judge(evaluation), _captions(evaluation)
        if judge is None:
            return {}
        return {
            "generation_accuracy": judge.accuracy(stacked(evaluation.made), captions),
            "classifier_accuracy": judge.accuracy(stacked(evaluation.truth), captions),
        }

    def notes(self, evaluation: Evaluation) -> Sequence[str] | None:
        judge = _judge(evaluation)
        return None if judge is None else judge.read(stacked(evaluation.made))


class CaptionAccuracy(Metric):
    """The share of held-out prompts whose greedy text is the true one, letter by letter."""

    name = "caption_accuracy"
    applies_to = AppliesTo(want_data="text")
    figures = (
        Figure(
            "caption_accuracy", "Caption accuracy", "", "higher", "percent",
            "the share of held-out prompts whose greedy text equals the true one exactly",
            "held-out prompts captioned exactly right",
        ),
    )  # fmt: skip

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        if not evaluation.task.given:
            return {}
        return {"caption_accuracy": share_equal(list(evaluation.made), list(evaluation.truth))}


class CaptionLikelihood(Metric):
    """Negative log-likelihood of the true held-out texts and of their ends, given their prompts, in nats.

    A token is the model's own unit; a byte is comparable between tokenizers.
    """

    name = "caption_nll"
    applies_to = AppliesTo(want_data="text")
    figures = (
        Figure(
            "caption_nll_token", "Caption NLL per token", "nats", "lower", "number",
            "negative log-likelihood of the true texts and their ends given their prompts, a token of the model",
        ),
        Figure(
            "caption_nll_byte", "Caption NLL per byte", "nats", "lower", "number",
            "the same, a UTF-8 byte, which can be compared between tokenizers",
        ),
    )  # fmt: skip

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        written = sum(len(text.encode()) for text in evaluation.truth)
        if evaluation.tokens < 1 or written < 1:
            raise TransfuseError("no held-out text was scored")
        return {
            "caption_nll_token": evaluation.nats / evaluation.tokens,
            "caption_nll_byte": evaluation.nats / written,
        }


class FrechetDistance(Metric):
    """The Fréchet distance of generated to held-out pictures, in the classifier's features.

    With it ``frechet_floor``: the same distance for as many real training pictures, spread evenly over
    the training split; a model at the floor draws pictures as close to the held-out ones as real ones are.
    Nothing is measured where captions are no classes.
    """

    name = "frechet_distance"
    applies_to = PROMPTED_PICTURES
    figures = (
        Figure(
            "frechet_distance", "Fréchet distance", "", "lower", "number",
            "between generated and held-out images in the features of that classifier; this is not FID, "
            "whose features are Inception's, and is comparable within this page only",
            "Fréchet distance to held-out images (lower is better)",
        ),
        Figure(
            "frechet_floor", "Fréchet distance of real training images", "", "", "number",
            "the Fréchet distance of as many real training images, which the classifier has seen, to the held-out ones",
        ),
    )  # fmt: skip

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        judge, features = _judge(evaluation), _features(evaluation)
        if judge is None or features is None:
            return {}
        (made, real), train = features, _training(evaluation).images
        count = min(len(made), len(train))
        spread = np.linspace(0, len(train) - 1, count).round().astype(int)
        return {
            "frechet_distance": frechet_distance(made, real),
            "frechet_floor": frechet_distance(judge.features(train[spread]), real),
        }


class KernelDistance(Metric):
    """The kernel distance of generated to held-out pictures, in the classifier's features.

    It is unbiased, so as many pictures as there are will do, and sets of unlike size can be compared; around 0 it may
    fall below. Nothing is measured where captions are no classes.
    """

    name = "kernel_distance"
    applies_to = PROMPTED_PICTURES
    figures = (
        Figure(
            "kernel_distance", "Kernel distance", "", "lower", "number",
            "between the same images in the same features, squared and unbiased: 0 on average where both are of one "
            "distribution, however few they are",
        ),
    )  # fmt: skip

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        features = _features(evaluation)
        return {} if features is None else {"kernel_distance": kernel_distance(*features)}


class ReconstructionError(Metric):
    """The mean squared error an element of held-out arrays through their codec and back."""

    name = "reconstruction_error"
    applies_to = AppliesTo(want_data="array", once_a_role=True)
    figures = (
        Figure(
            "reconstruction_error", "Reconstruction error", "MSE an element", "lower", "number",
            "mean squared error of held-out arrays through their codec and back; of images, a pixel in [0, 1]",
        ),
    )  # fmt: skip

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        total, count = 0.0, 0
        one_shape = len({np.shape(raw) for raw in evaluation.truth}) == 1
        if one_shape:
            return {"reconstruction_error": _error(stacked(evaluation.truth), stacked(evaluation.rebuilt))}
        for one, two in zip(evaluation.truth, evaluation.rebuilt, strict=True):
            total += _error(np.asarray(one), np.asarray(two)) * np.size(one)
            count += np.size(one)
        return {"reconstruction_error": total / count}


def _error(one: np.ndarray, two: np.ndarray) -> float:
    if one.shape != two.shape:
        raise TransfuseError(f"arrays {two.shape} are rebuilt from {one.shape}")
    return float(np.square(one.astype(np.float64) - two.astype(np.float64)).mean())


class OwnImageRank(Metric):
    """The median rank of a prompt's own picture among all real ones, seen from the one drawn for it.

    0 says that for most prompts no other picture of either split is nearer, by pixel distance
    (`transfuse_lab.evaluation.own_image`). ``own_image_rank_heldout`` is of captions never trained on,
    ``own_image_rank_seen`` of captions spread evenly over the training split. Nothing is measured where
    many pictures share a caption.
    """

    name = "own_image_rank"
    applies_to = PROMPTED_PICTURES
    figures = (
        Figure(
            "own_image_rank_seen", "Own image's rank, trained on", "images nearer", "lower", "number",
            "how many real images, of either split, are nearer by pixel distance to the image drawn for a caption than "
            "the caption's own image: the median over captions spread evenly over the training split",
        ),
        Figure(
            "own_image_rank_heldout", "Own image's rank, held out", "images nearer", "lower", "number",
            "the same for captions that were never trained on",
        ),
    )  # fmt: skip

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        train = _training(evaluation)
        captions = [*train.captions, *_captions(evaluation)]
        if not names(captions):
            return {}
        images = np.concatenate([train.images, stacked(evaluation.truth)])
        asked = {"own_image_rank_seen": evaluation.trained, "own_image_rank_heldout": evaluation}
        return {
            name: float(np.median(own_image_ranks(images, captions, stacked(one.made), _captions(one))))
            for name, one in asked.items()
            if one is not None
        }


def stacked(arrays: Sequence[Any]) -> np.ndarray:
    """Arrays of one shape as one array, ``[n, ...]``."""
    return np.stack([np.asarray(array) for array in arrays])


def _captions(evaluation: Evaluation) -> list[str]:
    return [str(text_of(prompt)) for prompt in evaluation.prompts]


@lru_cache(maxsize=1)
def _training(evaluation: Evaluation) -> Captioned:
    """The captioned pictures of the training split, as far as a classifier learns from them."""
    images: list[Any] = []
    captions: list[str] = []
    for prompt, image in evaluation.examples("train"):
        if len(images) == MOST_JUDGED:
            break
        images.append(image)
        captions.append(str(text_of(prompt)))
    return Captioned(stacked(images), captions)


def _judge(evaluation: Evaluation) -> Classifier | None:
    """The classifier of the training pictures; None where captions are no classes: at least two, each with some
    training pictures, none new held out."""
    train = _training(evaluation)
    counts: Mapping[str, int] = Counter(train.captions)
    enough = len(counts) >= 2 and len(train.captions) >= FEWEST_A_CLASS * len(counts)
    if not enough or not set(_captions(evaluation)) <= set(counts):
        return None
    return classifier_of(train.images, train.captions)


@lru_cache(maxsize=1)
def _features(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray] | None:
    """Of what was made and of held-out pictures, by the classifier; None without one, or of fewer than two."""
    judge = _judge(evaluation)
    if judge is None or len(evaluation.made) < 2:
        return None
    return judge.features(stacked(evaluation.made)), judge.features(stacked(evaluation.truth))
