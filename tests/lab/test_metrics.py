"""Each metric on an evaluation small enough to work out by hand."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import transfuse_lab.plugin
from transfuse import TransfuseError
from transfuse.metrics import Evaluation, Metric
from transfuse.registry.plugins import Plugins
from transfuse_lab.evaluation import metrics
from transfuse_lab.evaluation.classifier import classifier_of
from transfuse_lab.evaluation.frechet import frechet_distance

RNG = np.random.default_rng(0)


def shades(captions: list[str]) -> np.ndarray:
    light = np.array([{"dark": 0.1, "bright": 0.7}[caption] for caption in captions], np.float32)
    return light[:, None, None, None] + RNG.random((len(captions), 1, 8, 8), np.float32) * 0.2


TRAIN, HELDOUT, PROMPTS = ["dark", "bright"] * 20, ["dark", "bright"] * 10, ["dark"] * 8
EVALUATION = Evaluation(
    train_images=shades(TRAIN),
    train_captions=TRAIN,
    heldout_images=shades(HELDOUT),
    heldout_captions=HELDOUT,
    prompts=PROMPTS,
    generated=shades(["dark"] * 6 + ["bright"] * 2),
    predicted_captions=["dark"] * 19 + ["brigh"],
    reconstructions=np.zeros((20, 1, 8, 8), np.float32),
    caption_nats=30.0,
    caption_tokens=20,
    caption_bytes=100,
)


def test_generation_accuracy_by_the_classifier_with_its_own() -> None:
    figures = metrics.GenerationAccuracy().compute(EVALUATION)
    assert figures == {"generation_accuracy": 0.75, "classifier_accuracy": 1.0}


def test_caption_accuracy_is_exact() -> None:
    assert metrics.CaptionAccuracy().compute(EVALUATION) == {"caption_accuracy": 0.5}


def test_caption_likelihood_a_token_and_a_byte() -> None:
    figures = metrics.CaptionLikelihood().compute(EVALUATION)
    assert figures == {"caption_nll_token": 1.5, "caption_nll_byte": 0.3}


def test_no_scored_caption_is_an_error() -> None:
    with pytest.raises(TransfuseError, match="no held-out caption was scored"):
        metrics.CaptionLikelihood().compute(replace(EVALUATION, caption_tokens=0))


def test_reconstruction_error_is_squared_and_a_pixel() -> None:
    halves = replace(EVALUATION, reconstructions=EVALUATION.heldout_images + np.float32(0.5))
    assert metrics.ReconstructionError().compute(halves)["reconstruction_error"] == pytest.approx(0.25)
    with pytest.raises(TransfuseError, match="rebuilt from"):
        metrics.ReconstructionError().compute(replace(EVALUATION, reconstructions=np.zeros((20, 1, 4, 4))))


def test_frechet_distance_to_held_out_images_with_a_floor_of_as_many_real_ones() -> None:
    figures = metrics.FrechetDistance().compute(EVALUATION)
    judge = classifier_of(EVALUATION.train_images, EVALUATION.train_captions)
    real = judge.features(EVALUATION.heldout_images)
    assert figures["frechet_distance"] == frechet_distance(judge.features(EVALUATION.generated), real)
    spread = EVALUATION.train_images[[0, 6, 11, 17, 22, 28, 33, 39]]
    assert figures["frechet_floor"] == frechet_distance(judge.features(spread), real)
    perfect = replace(EVALUATION, generated=EVALUATION.heldout_images)
    assert metrics.FrechetDistance().compute(perfect)["frechet_distance"] < 1e-6


@pytest.mark.parametrize(
    "change",
    [
        {"train_captions": [f"caption {n}" for n in range(40)]},
        {"train_captions": ["dark"] * 40, "heldout_captions": ["dark"] * 20},
        {"heldout_captions": ["grey"] * 20},
    ],
)
def test_captions_that_are_no_classes_are_not_judged(change: dict[str, list[str]]) -> None:
    evaluation = replace(EVALUATION, **change)
    assert metrics.GenerationAccuracy().compute(evaluation) == {}
    assert metrics.FrechetDistance().compute(evaluation) == {}


def named(count: int, heldout: int) -> Evaluation:
    """An evaluation in which every picture has a name of its own, drawn without a fault."""
    images = RNG.random((count, 1, 4, 4), np.float32)
    captions = [f"caption {n}" for n in range(count)]
    return replace(
        EVALUATION,
        train_images=images[heldout:], train_captions=captions[heldout:],
        heldout_images=images[:heldout], heldout_captions=captions[:heldout],
        prompts=captions[:heldout], generated=images[:heldout],
        seen_prompts=captions[-3:], seen_generated=images[-3:],
    )  # fmt: skip


def test_own_image_rank_is_the_median_over_prompts_of_each_split() -> None:
    perfect = named(20, 5)
    rank = metrics.OwnImageRank().compute
    assert rank(perfect) == {"own_image_rank_seen": 0, "own_image_rank_heldout": 0}
    one_wrong = perfect.heldout_images[[1, 1, 2, 3, 4]]
    assert rank(replace(perfect, generated=one_wrong))["own_image_rank_heldout"] == 0
    all_wrong = perfect.train_images[[0, 1, 2, 3, 4]]
    figures = rank(replace(perfect, generated=all_wrong))
    assert figures["own_image_rank_heldout"] >= 1
    assert figures["own_image_rank_seen"] == 0
    assert rank(replace(perfect, seen_prompts=[])) == {"own_image_rank_heldout": 0}


def test_own_image_rank_is_not_measured_of_classes() -> None:
    assert metrics.OwnImageRank().compute(EVALUATION) == {}


def test_every_metric_is_offered_and_built_under_its_name() -> None:
    plugins = Plugins.of({"lab": transfuse_lab.plugin})
    offered = plugins.parts("metric")
    here = {v for v in vars(metrics).values() if isinstance(v, type) and issubclass(v, Metric)} - {Metric}
    assert set(offered) == {metric.name for metric in here}
    for name in offered:
        built = plugins.choose("metric", name).build()
        assert type(built) in here
        assert built.name == name
        assert set(built.compute(named(20, 5) if name == "own_image_rank" else EVALUATION))


def test_listing_the_parts_imports_nothing_slow() -> None:
    code = (
        "import sys, transfuse_lab.plugin as p; p.transfuse_datasets(), p.transfuse_metrics();"
        "sys.exit(bool({'torch', 'sklearn', 'scipy', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
