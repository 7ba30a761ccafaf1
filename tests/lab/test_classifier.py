"""The classifier reads real digits, is the same every time, and touches no global random state."""

import numpy as np
import pytest
import torch
from transfuse import TransfuseError
from transfuse_lab.datasets.digits import NAMES, Digits
from transfuse_lab.evaluation import classifier
from transfuse_lab.evaluation.classifier import classifier_of, train_classifier

SHADES = ("bright", "dark")


def pairs(count: int = 60, side: int = 8, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    captions = [SHADES[n % 2] for n in range(count)]
    light = np.array([0.7 if caption == "bright" else 0.1 for caption in captions], np.float32)
    return light[:, None, None, None] + rng.random((count, 1, side, side), np.float32) * 0.2, captions


def test_it_reads_held_out_digits() -> None:
    digits = Digits()
    images = {split: np.stack(list(digits.raw(split, "image"))) for split in ("train", "tune", "test")}
    judge = classifier_of(images["train"], list(digits.raw("train", "text")))
    assert judge.classes == tuple(sorted(NAMES))
    assert judge.accuracy(images["test"], list(digits.raw("test", "text"))) >= 0.95
    features = judge.features(images["test"])
    assert (features.shape, features.dtype) == ((297, 64), np.float64)


@pytest.mark.parametrize("side", [4, 9, 32])
def test_images_of_any_size(side: int) -> None:
    images, captions = pairs(side=side)
    judge = train_classifier(images, captions)
    assert judge.accuracy(*pairs(side=side, seed=1)) == 1.0


def test_the_same_pairs_give_the_same_classifier_and_other_seeds_another() -> None:
    images, captions = pairs()
    one, two, other = (train_classifier(images, captions, seed).features(images) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_the_global_random_state_is_neither_read_nor_moved() -> None:
    images, captions = pairs()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = train_classifier(images, captions).features(images)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    np.testing.assert_array_equal(one, train_classifier(images, captions).features(images))


def test_it_is_trained_once_for_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(classifier, "train_classifier", lambda *given: calls.append(1) or object())
    images, captions = pairs(seed=8)  # of this test alone: what is kept here is no classifier
    first = classifier_of(images, captions)
    assert classifier_of(images.copy(), list(captions)) is first
    assert len(calls) == 1
    classifier_of(images + 0.01, captions)
    classifier_of(images, captions[::-1])
    assert len(calls) == 3


def test_shifts_move_about_half_the_images_by_a_pixel() -> None:
    image = torch.zeros(400, 1, 5, 5)
    image[:, :, 2, 2] = 1
    moved = classifier.shifted(image, torch.Generator().manual_seed(0))
    places = [tuple(p.nonzero()[0].tolist()) for p in moved[:, 0]]
    assert set(places) == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    assert 0.4 < places.count((2, 2)) / 400 < 0.7


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        (np.zeros((3, 1, 8, 8)), ["a", "b"], "do not go with 2 captions"),
        (np.zeros((2, 1, 8, 8)), ["a", "a"], "1 distinct captions"),
        (np.zeros((2, 1, 3, 8)), ["a", "b"], "4 x 4 pixels at least"),
        (np.zeros((2, 8, 8)), ["a", "b"], "do not go with"),
    ],
)
def test_what_cannot_be_learnt_from(images: np.ndarray, captions: list[str], message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        train_classifier(images, captions)


def test_images_it_cannot_read() -> None:
    judge = train_classifier(*pairs())
    with pytest.raises(TransfuseError, match="it was trained on"):
        judge.read(np.zeros((1, 3, 8, 8)))
    with pytest.raises(TransfuseError, match="NaN or Inf"):
        judge.read(np.full((1, 1, 8, 8), np.nan))
    with pytest.raises(TransfuseError, match="cannot compare 2 with 1"):
        judge.accuracy(np.zeros((2, 1, 8, 8)), ["dark"])
