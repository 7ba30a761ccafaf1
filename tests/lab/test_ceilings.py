"""Ceilings of codecs: what real pictures reach through them, and whether that is enough to compare anything."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import transfuse.datasets
from transfuse.config.recipe import EvalSettings
from transfuse.metrics import Figure
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities, fit_modalities
from transfuse.registry import Registry
from transfuse_lab.datasets.digits import Digits
from transfuse_lab.evaluation.ceilings import Ceiling, ceilings

ASKED = EvalSettings(prompts=80, tasks=("text->image", "image->text"))


@pytest.fixture(scope="module")
def digits(small_recipe: Callable) -> Mapping[str, Modality]:
    recipe = small_recipe()
    return fit_modalities(build_modalities(recipe), Digits(), 0, lambda line: None)


def found(digits: Mapping[str, Modality]) -> dict[str, Ceiling]:
    metrics = Registry.open().metrics()
    return {one.figure.name: one for one in ceilings(digits, Digits(), metrics, ASKED)}


def test_of_pixels_themselves_it_is_what_untouched_pictures_reach(digits: Mapping[str, Modality]) -> None:
    """Figures of what is drawn, and of nothing that a model would have to be there for."""
    reached = found(digits)
    assert {"generation_accuracy", "frechet_distance", "reconstruction_error"} <= reached.keys()
    assert (
        not {"caption_accuracy", "caption_nll_token", "classifier_accuracy", "frechet_floor"} & reached.keys()
    )
    accuracy = reached["generation_accuracy"]
    assert accuracy.role == "image"
    assert accuracy.reached == accuracy.untouched > 0.9
    assert not any(one.too_low for one in reached.values())


def test_of_a_codec_that_loses_the_picture_it_is_too_low(
    digits: Mapping[str, Modality], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits["image"], "decode", lambda payload: np.full((1, 8, 8), 0.5, np.float32))
    reached = found(digits)
    assert reached["generation_accuracy"].too_low
    assert reached["generation_accuracy"].reached < 0.3
    assert reached["generation_accuracy"].untouched > 0.9
    assert reached["reconstruction_error"].reached > reached["reconstruction_error"].untouched == 0


@pytest.mark.parametrize(
    ("form", "better", "reached", "too_low"),
    [
        ("percent", "higher", 0.985, True),
        ("percent", "higher", 0.9901, False),
        ("percent", "", 0.1, False),
        ("number", "lower", 0.1, False),
    ],
)
def test_shares_that_are_to_be_high_must_keep_nearly_all(
    form: str, better: str, reached: float, too_low: bool
) -> None:
    figure = Figure("a", "A", form=form, better=better)  # type: ignore[arg-type]
    assert Ceiling("image", figure, reached, 1.0).too_low == too_low


@pytest.mark.parametrize(
    ("recipe", "sets", "verdict"),
    [
        ("transfusion", (), "enough is kept"),
        ("chameleon", ("image.codec.codes=4",), "too much is lost to compare anything by"),
    ],
)
def test_train_codec_says_whether_anything_can_be_compared(
    cli: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: str,
    sets: tuple[str, ...],
    verdict: str,
) -> None:
    """Scenes, read exactly, through components and through too few codes."""
    monkeypatch.setattr(transfuse.datasets, "EXCERPT", 300)
    done = cli(
        "train-codec", recipe, "--data", "scenes", "--out", tmp_path, "--set", "eval.prompts=60",
        *(word for one in sets for word in ("--set", one)),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "image: object_recall of real items" in done.output
    assert f"image: {verdict}" in done.output
