"""Each metric on an evaluation small enough to work out by hand."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import transfuse_lab.plugin
from transfuse import TransfuseError
from transfuse.documents import Item
from transfuse.metrics import Evaluation, Metric, Task
from transfuse.registry.plugins import Plugins
from transfuse_lab.evaluation import metrics
from transfuse_lab.evaluation.classifier import classifier_of
from transfuse_lab.evaluation.frechet import frechet_distance
from transfuse_lab.evaluation.kernel_distance import kernel_distance

RNG = np.random.default_rng(0)


def shades(captions: list[str]) -> np.ndarray:
    light = np.array([{"dark": 0.1, "bright": 0.7}[caption] for caption in captions], np.float32)
    return light[:, None, None, None] + RNG.random((len(captions), 1, 8, 8), np.float32) * 0.2


TRAIN, HELDOUT = ["dark", "bright"] * 20, ["dark", "bright"] * 4


def prompts(captions: Sequence[str]) -> list[tuple[Item, ...]]:
    return [(Item("text", caption),) for caption in captions]


def drawn(
    captions: list[str], truth: np.ndarray, made: np.ndarray, train: tuple[list[str], np.ndarray], **more: Any
) -> Evaluation:
    """Captions shown as pictures, ``train`` the captions and pictures of the training split."""
    pairs = [(prompt, image) for prompt, image in zip(prompts(train[0]), train[1], strict=True)]
    return Evaluation(
        Task("image", ("text",)), prompts(captions), list(truth), list(made),
        examples=lambda split: iter(pairs), **more,
    )  # fmt: skip


TRUTH, TRAINED_ON = shades(HELDOUT), (TRAIN, shades(TRAIN))
DRAWN = drawn(HELDOUT, TRUTH, shades(["dark", "bright"] * 3 + ["bright", "dark"]), TRAINED_ON, rebuilt=TRUTH)
WRITTEN = Evaluation(
    Task("text", ("image",)), [(Item("image", image),) for image in TRUTH], HELDOUT,
    [*HELDOUT[:-1], "brigh"], nats=30.0, tokens=20,
)  # fmt: skip


def test_generation_accuracy_by_the_classifier_with_its_own() -> None:
    figures = metrics.GenerationAccuracy().compute(DRAWN)
    assert figures == {"generation_accuracy": 0.75, "classifier_accuracy": 1.0}
    assert metrics.GenerationAccuracy().notes(DRAWN) == [*HELDOUT[:6], "bright", "dark"]


def test_caption_accuracy_is_exact_and_of_what_was_asked() -> None:
    assert metrics.CaptionAccuracy().compute(WRITTEN) == {"caption_accuracy": 7 / 8}
    assert metrics.CaptionAccuracy().compute(replace(WRITTEN, task=Task("text"))) == {}


def test_caption_likelihood_a_token_and_a_byte() -> None:
    figures = metrics.CaptionLikelihood().compute(WRITTEN)
    assert figures == {"caption_nll_token": 1.5, "caption_nll_byte": 30 / sum(map(len, HELDOUT))}


def test_no_scored_caption_is_an_error() -> None:
    with pytest.raises(TransfuseError, match="no held-out text was scored"):
        metrics.CaptionLikelihood().compute(replace(WRITTEN, tokens=0))


def test_reconstruction_error_is_squared_and_an_element_of_whatever_shapes() -> None:
    error = metrics.ReconstructionError().compute
    assert error(replace(DRAWN, rebuilt=list(TRUTH + np.float32(0.5))))[
        "reconstruction_error"
    ] == pytest.approx(0.25)
    ragged = replace(DRAWN, truth=[np.zeros(2), np.zeros(6)], rebuilt=[np.ones(2), np.zeros(6)])
    assert error(ragged)["reconstruction_error"] == pytest.approx(2 / 8)
    with pytest.raises(TransfuseError, match="rebuilt from"):
        error(replace(DRAWN, rebuilt=np.zeros((8, 1, 4, 4))))


def test_frechet_distance_to_held_out_images_with_a_floor_of_as_many_real_ones() -> None:
    figures = metrics.FrechetDistance().compute(DRAWN)
    judge = classifier_of(TRAINED_ON[1], TRAIN)
    real = judge.features(TRUTH)
    assert figures["frechet_distance"] == frechet_distance(judge.features(np.stack(DRAWN.made)), real)
    spread = TRAINED_ON[1][[0, 6, 11, 17, 22, 28, 33, 39]]
    assert figures["frechet_floor"] == frechet_distance(judge.features(spread), real)
    perfect = replace(DRAWN, made=list(TRUTH))
    assert metrics.FrechetDistance().compute(perfect)["frechet_distance"] < 1e-6


def test_kernel_distance_tells_what_is_drawn_otherwise_from_what_is_alike() -> None:
    compute = metrics.KernelDistance().compute
    judge = classifier_of(TRAINED_ON[1], TRAIN)
    made, real = judge.features(np.stack(DRAWN.made)), judge.features(TRUTH)
    assert compute(DRAWN) == {"kernel_distance": kernel_distance(made, real)}
    alike = replace(DRAWN, made=list(shades(HELDOUT)))
    one_sided = replace(DRAWN, made=list(shades(["dark"] * len(HELDOUT))))
    # As many of each caption as are held out, and not as chance would have it: so it may lie well below 0.
    assert compute(alike)["kernel_distance"] < 0.1 * compute(one_sided)["kernel_distance"]


@pytest.mark.parametrize(
    ("train", "heldout"),
    [
        ([f"caption {n}" for n in range(40)], ["caption 3"] * 8),
        (["dark"] * 40, ["dark"] * 8),
        (TRAIN, ["grey"] * 8),
    ],
)
def test_captions_that_are_no_classes_are_not_judged(train: list[str], heldout: list[str]) -> None:
    evaluation = drawn(heldout, TRUTH, TRUTH, (train, TRAINED_ON[1]))
    assert metrics.GenerationAccuracy().compute(evaluation) == {}
    assert metrics.FrechetDistance().compute(evaluation) == {}
    assert metrics.KernelDistance().compute(evaluation) == {}
    assert metrics.GenerationAccuracy().notes(evaluation) is None


def named(count: int = 20, heldout: int = 5) -> tuple[Evaluation, np.ndarray]:
    """An evaluation in which every picture has a name of its own, drawn without a fault; and all pictures."""
    images = RNG.random((count, 1, 4, 4), np.float32)
    captions = [f"caption {n}" for n in range(count)]
    train = (captions[heldout:], images[heldout:])
    seen = drawn(captions[-3:], images[-3:], images[-3:], train, split="train")
    return drawn(captions[:heldout], images[:heldout], images[:heldout], train, trained=seen), images


def test_own_image_rank_is_the_median_over_prompts_of_each_split() -> None:
    perfect, images = named()
    rank = metrics.OwnImageRank().compute
    assert rank(perfect) == {"own_image_rank_seen": 0, "own_image_rank_heldout": 0}
    assert rank(replace(perfect, made=list(images[[1, 1, 2, 3, 4]])))["own_image_rank_heldout"] == 0
    figures = rank(replace(perfect, made=list(images[[5, 6, 7, 8, 9]])))
    assert figures["own_image_rank_heldout"] >= 1
    assert figures["own_image_rank_seen"] == 0
    assert rank(replace(perfect, trained=None)) == {"own_image_rank_heldout": 0}


def test_own_image_rank_is_not_measured_of_classes() -> None:
    assert metrics.OwnImageRank().compute(DRAWN) == {}


def test_every_metric_is_offered_and_built_under_its_name() -> None:
    plugins = Plugins.of({"lab": transfuse_lab.plugin})
    offered = plugins.parts("metric")
    here = {v for v in vars(metrics).values() if isinstance(v, type) and issubclass(v, Metric)} - {Metric}
    assert set(offered) == {metric.name for metric in here}
    for name in offered:
        built = plugins.choose("metric", name).build()
        assert type(built) in here
        assert built.name == name
        evaluation = WRITTEN if built.applies_to.want_data == "text" else DRAWN
        computed = built.compute(named()[0] if name == "own_image_rank" else evaluation)
        assert computed.keys() == {figure.name for figure in built.figures}


def test_listing_the_parts_imports_nothing_slow() -> None:
    code = (
        "import sys, transfuse_lab.plugin as p; p.transfuse_datasets(), p.transfuse_metrics();"
        "sys.exit(bool({'torch', 'sklearn', 'scipy', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
