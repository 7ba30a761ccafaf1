"""The Fréchet distance against its formula with scipy's matrix root, and where the answer is known."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from transfuse import TransfuseError
from transfuse_lab.evaluation.frechet import frechet_distance


def cloud(count: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


@pytest.mark.parametrize(("count", "width"), [(500, 8), (300, 64), (50, 3)])
def test_it_is_the_formula(count: int, width: int) -> None:
    one, two = cloud(count, width, 1), cloud(count + 7, width, 2)
    first, second = np.cov(one.T), np.cov(two.T)
    gap = one.mean(0) - two.mean(0)
    expected = gap @ gap + np.trace(first + second - 2 * sqrtm(first @ second).real)
    np.testing.assert_allclose(frechet_distance(one, two), expected, rtol=1e-6)


def test_a_shift_is_its_squared_length_and_a_scale_its_squared_difference() -> None:
    one = cloud(200, 5, 3)
    np.testing.assert_allclose(frechet_distance(one, one + 2), 20, rtol=1e-9)
    spread = np.trace(np.cov(one.T))
    centred = one - one.mean(0)
    np.testing.assert_allclose(frechet_distance(centred, centred * 3), 4 * spread, rtol=1e-9)


def test_it_is_zero_for_equal_sets_and_symmetric() -> None:
    one, two = cloud(100, 6, 4), cloud(100, 6, 5)
    assert frechet_distance(one, one) < 1e-9
    np.testing.assert_allclose(frechet_distance(one, two), frechet_distance(two, one), rtol=1e-9)


def test_fewer_vectors_than_dimensions_and_dead_features_are_fine() -> None:
    one = cloud(10, 30, 6)
    one[:, 3] = 0
    assert frechet_distance(one, one) < 1e-8
    assert frechet_distance(one, one + 1) == pytest.approx(30)


def test_one_feature() -> None:
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3))),
        (np.zeros((5, 3)), np.zeros((5, 4))),
        (np.zeros(5), np.zeros(5)),
        (np.full((5, 3), np.nan), np.zeros((5, 3))),
    ],
)
def test_what_cannot_be_compared(one: np.ndarray, two: np.ndarray) -> None:
    with pytest.raises(TransfuseError, match="Fréchet distance"):
        frechet_distance(one, two)
