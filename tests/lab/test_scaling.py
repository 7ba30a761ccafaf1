"""Parity ratios and power laws against curves whose answer is known; kernel distance against its own law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse.errors import TransfuseError
from transfuse_lab.evaluation.frechet import frechet_distance
from transfuse_lab.evaluation.kernel_distance import kernel_distance
from transfuse_lab.evaluation.scaling import parity, power_law

BUDGETS = [1e12, 3e12, 9e12, 2.7e13]


def curve(shift: float = 0.0, slope: float = 0.1, seeds: int = 5, sd: float = 0.0, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {
        flops: (0.3 + slope * (np.log(flops / 1e12) + shift) + rng.normal(0, sd, seeds)).tolist()
        for flops in BUDGETS
    }


@given(st.floats(0.3, 3))
def test_an_arm_that_is_so_many_times_as_thrifty_has_that_ratio(ratio: float) -> None:
    found = parity(curve(np.log(ratio)), curve(), resamples=10)
    if ratio < 1:
        assert found.censored == "never"
        assert found.ratio == pytest.approx(1)
    else:
        assert found.ratio == pytest.approx(ratio, rel=1e-6)
        assert (found.censored, found.low, found.high) == ("", found.ratio, found.ratio)


def test_what_is_never_or_always_reached_is_censored() -> None:
    never = parity(curve(-5), curve(), resamples=50)
    assert (never.censored, never.never) == ("never", 1)
    always = parity(curve(10), curve(), resamples=50)
    assert (always.censored, always.always) == ("always", 1)
    assert always.ratio == pytest.approx(BUDGETS[-1] / BUDGETS[0])


def test_the_interval_holds_the_truth_and_is_as_wide_as_the_slope_makes_it() -> None:
    holds, widths = [], {}
    for slope in (0.2, 0.05):
        for seed in range(40):
            found = parity(
                curve(np.log(2), slope, sd=0.02, seed=seed), curve(0, slope, sd=0.02, seed=seed + 999), 300
            )
            holds.append(found.low <= 2 <= found.high)
            widths.setdefault(slope, []).append(found.high / found.low)
    assert np.mean(holds) > 0.75, "five seeds: bootstrap intervals are a little narrow"
    assert np.median(widths[0.05]) > np.median(widths[0.2])


def test_a_dip_is_made_level() -> None:
    dipped = {1.0: [0.1], 2.0: [0.5], 4.0: [0.3], 8.0: [0.6]}
    found = parity(dipped, {8.0: [0.4]}, resamples=10)
    assert found.ratio == pytest.approx(8 / 2), "0.5 and 0.3 are 0.4 each"


@pytest.mark.parametrize(
    ("arm", "other", "message"),
    [
        ({1.0: [0.1]}, {1.0: [0.1]}, "one point"),
        ({1.0: [0.1], 2.0: [0.2, 0.3]}, {1.0: [0.1]}, "one number of seeds"),
        ({1.0: [0.1], 2.0: [0.2]}, {1.0: [0.1, 0.2]}, "1 seeds against 2"),
        ({1.0: [0.1], 2.0: [float("nan")]}, {1.0: [0.1]}, "not finite"),
    ],
)
def test_curves_that_cannot_be_compared_are_named(arm: dict, other: dict, message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        parity(arm, other)


# -- power laws


@given(scale=st.floats(0.5, 5), exponent=st.floats(0.01, 0.4))
def test_a_law_is_found_from_its_points(scale: float, exponent: float) -> None:
    points = [scale * 1e3 * flops**-exponent for flops in BUDGETS]
    law = power_law(BUDGETS, points)
    assert law.exponent == pytest.approx(exponent, rel=1e-6)
    assert law.scale == pytest.approx(scale * 1e3, rel=1e-6)
    assert max(map(abs, law.residuals)) < 1e-9
    assert law.slope == pytest.approx(-exponent * points[-1], rel=1e-6)


def test_a_floor_is_found_and_what_a_law_without_one_leaves_shows() -> None:
    budgets = [1e12 * 2**i for i in range(8)]
    points = [1.5 + 2000 * flops**-0.25 for flops in budgets]
    law = power_law(budgets, points, floor=True)
    assert law.floor == pytest.approx(1.5, rel=1e-3)
    assert law.exponent == pytest.approx(0.25, rel=1e-2)
    assert max(map(abs, law.residuals)) < 1e-4
    assert max(map(abs, power_law(budgets, points).residuals)) > 10 * max(map(abs, law.residuals))
    assert law.at(budgets[3]) == pytest.approx(points[3], rel=1e-4)


def test_laws_of_too_few_points_or_of_what_is_no_loss_are_refused() -> None:
    with pytest.raises(TransfuseError, match="at least 4 that differ"):
        power_law(BUDGETS[:3], [3, 2, 1], floor=True)
    with pytest.raises(TransfuseError, match="finite and over 0"):
        power_law(BUDGETS, [1, 1, 0, 1])


# -- kernel distance


def test_of_one_distribution_it_is_nothing_on_average_where_frechets_distance_is_not() -> None:
    rng = np.random.default_rng(0)
    kernel, frechet = [], []
    for _ in range(60):
        one, two = rng.normal(size=(2, 60, 8))
        kernel.append(kernel_distance(one, two))
        frechet.append(frechet_distance(one, two))
    assert abs(np.mean(kernel)) < 3 * np.std(kernel) / 60**0.5
    assert min(frechet) > 0.3


def test_it_is_the_sum_over_couples() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(4, 3)), rng.normal(1, 1, size=(5, 3))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (x @ y / 3 + 1) ** 3

    within = [
        np.mean([kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
        for s in (one, two)
    ]
    across = np.mean([kernel(x, y) for x in one for y in two])
    assert kernel_distance(one, two) == pytest.approx(sum(within) - 2 * across)
    assert kernel_distance(one, one + 3) > 1


def test_features_that_cannot_be_compared_are_named() -> None:
    with pytest.raises(TransfuseError, match="cannot be compared"):
        kernel_distance(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(TransfuseError, match="NaN"):
        kernel_distance(np.full((3, 2), np.nan), np.zeros((3, 2)))
