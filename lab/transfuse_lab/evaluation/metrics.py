"""What an evaluation measures of generated images, captions and reconstructions."""

from collections import Counter

import numpy as np
from transfuse.errors import TransfuseError
from transfuse.metrics import Evaluation, Metric

from transfuse_lab.evaluation.classifier import Classifier, classifier_of, share_equal
from transfuse_lab.evaluation.frechet import frechet_distance
from transfuse_lab.evaluation.own_image import captions_are_names, own_image_ranks

FEWEST_A_CLASS = 5  # training images a caption on average, below which captions are no classes


class GenerationAccuracy(Metric):
    """The share of generated images in which the classifier reads the caption they were asked to show.

    With it ``classifier_accuracy``, the same on real held-out images: no model can be told from a
    perfect one beyond it. Nothing is measured where captions are no classes (nearly all distinct).
    """

    name = "generation_accuracy"

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        if not captions_are_classes(evaluation) or not evaluation.prompts:
            return {}
        judge = _judge(evaluation)
        return {
            "generation_accuracy": judge.accuracy(evaluation.generated, evaluation.prompts),
            "classifier_accuracy": judge.accuracy(evaluation.heldout_images, evaluation.heldout_captions),
        }


class CaptionAccuracy(Metric):
    """The share of held-out images whose greedy caption is the true one, letter by letter."""

    name = "caption_accuracy"

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        return {"caption_accuracy": share_equal(evaluation.predicted_captions, evaluation.heldout_captions)}


class CaptionLikelihood(Metric):
    """Negative log-likelihood of the true held-out captions, given their images, in nats.

    A token is the model's own unit; a byte is comparable between tokenizers.
    """

    name = "caption_nll"

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        if evaluation.caption_tokens < 1 or evaluation.caption_bytes < 1:
            raise TransfuseError("caption_nll: no held-out caption was scored")
        return {
            "caption_nll_token": evaluation.caption_nats / evaluation.caption_tokens,
            "caption_nll_byte": evaluation.caption_nats / evaluation.caption_bytes,
        }


class FrechetDistance(Metric):
    """The Fréchet distance of generated to held-out images, in the classifier's features.

    With it ``frechet_floor``: the same distance for as many real training images, spread evenly over
    the training split; a model at the floor draws images as close to the held-out ones as real ones are.
    Nothing is measured where captions are no classes.
    """

    name = "frechet_distance"

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        if not captions_are_classes(evaluation) or len(evaluation.generated) < 2:
            return {}
        judge = _judge(evaluation)
        real = judge.features(evaluation.heldout_images)
        count = min(len(evaluation.generated), len(evaluation.train_images))
        spread = np.linspace(0, len(evaluation.train_images) - 1, count).round().astype(int)
        return {
            "frechet_distance": frechet_distance(judge.features(evaluation.generated), real),
            "frechet_floor": frechet_distance(judge.features(evaluation.train_images[spread]), real),
        }


class ReconstructionError(Metric):
    """The mean squared error a pixel of held-out images through the codec and back, images in [0, 1]."""

    name = "reconstruction_error"

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        one, two = evaluation.heldout_images, evaluation.reconstructions
        if one.shape != two.shape:
            raise TransfuseError(f"reconstruction_error: {two.shape} images rebuilt from {one.shape}")
        error = np.square(one.astype(np.float64) - two.astype(np.float64)).mean()
        return {"reconstruction_error": float(error)}


class OwnImageRank(Metric):
    """The median rank of a prompt's own picture among all real ones, seen from the one drawn for it.

    0 says that for most prompts no other picture of either split is nearer, by pixel distance
    (`transfuse_lab.evaluation.own_image`). ``own_image_rank_heldout`` is of captions never trained on,
    ``own_image_rank_seen`` of captions spread evenly over the training split. Nothing is measured where
    many pictures share a caption.
    """

    name = "own_image_rank"

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        captions = [*evaluation.train_captions, *evaluation.heldout_captions]
        if not captions_are_names(captions):
            return {}
        images = np.concatenate([evaluation.train_images, evaluation.heldout_images])
        asked = {
            "own_image_rank_seen": (evaluation.seen_generated, evaluation.seen_prompts),
            "own_image_rank_heldout": (evaluation.generated, evaluation.prompts),
        }
        return {
            name: float(np.median(own_image_ranks(images, captions, generated, prompts)))
            for name, (generated, prompts) in asked.items()
            if prompts
        }


def captions_are_classes(evaluation: Evaluation) -> bool:
    """Whether captions name classes: at least two, each with some training images, none new held out."""
    counts = Counter(evaluation.train_captions)
    enough = len(counts) >= 2 and len(evaluation.train_captions) >= FEWEST_A_CLASS * len(counts)
    return enough and set(evaluation.heldout_captions) <= set(counts)


def _judge(evaluation: Evaluation) -> Classifier:
    return classifier_of(evaluation.train_images, evaluation.train_captions)
