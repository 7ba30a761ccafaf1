"""Means, intervals and paired differences against scipy and by hand."""

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transfuse_lab.evaluation.statistics import Summary, paired_difference, summarise

FIGURES = st.floats(-1e6, 1e6)


@settings(deadline=None, derandomize=True)
@given(st.lists(FIGURES, min_size=3, max_size=12).filter(lambda v: np.std(v) > 1e-3))
def test_the_interval_is_scipys(values: list[float]) -> None:
    found = summarise(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low, rel=1e-9, abs=1e-6)
    assert found.high == pytest.approx(expected.high, rel=1e-9, abs=1e-6)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.values == tuple(values)


def test_by_hand() -> None:
    found = summarise([1.0, 2.0, 3.0])
    assert found.low == pytest.approx(2 - 4.302652729911275 / 3**0.5)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.7]])
def test_fewer_than_three_seeds_have_no_interval(values: list[float]) -> None:
    found = summarise(values)
    assert (found.low, found.high, found.verdict) == (None, None, "no interval")
    assert found.mean == pytest.approx(sum(values) / len(values))


@pytest.mark.parametrize("bad", [nan, inf, None])
def test_a_run_that_diverged_is_not_averaged_away(bad: float | None) -> None:
    assert summarise([1.0, bad, 2.0, 3.0]) == Summary(None, None, None, (1.0, None, 2.0, 3.0))


def test_nothing_has_no_mean() -> None:
    assert summarise([]).mean is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = summarise([0.1] * 3)
    assert found.low == found.mean == found.high


def test_differences_are_paired_by_seed() -> None:
    found = paired_difference({0: 1.0, 1: 10.0, 2: 5.0, 7: 3.0}, {2: 6.0, 0: 2.0, 1: 11.0, 8: 0.0})
    assert found.values == (1.0, 1.0, 1.0)
    assert (found.low, found.high, found.verdict) == (1.0, 1.0, "above")
    assert paired_difference({0: 1.0}, {0: None}).mean is None


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1, 1.1, 0.9], "above"),
        ([-1, -1.1, -0.9], "below"),
        ([-1, 1, 0.5], "undecided"),
        ([0] * 3, "undecided"),
    ],
)
def test_the_verdict_is_where_zero_lies(values: list[float], verdict: str) -> None:
    assert summarise(values).verdict == verdict
