"""Statistics of a comparison, each against a known answer: coverage, equivalence, Holm, power, A/A, exact signs."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse.errors import TransfuseError
from transfuse_lab.evaluation.verdicts import (
    Finding,
    detectable,
    find,
    holm,
    same_against_same,
    seeds_wanted,
    sign_flips,
)

SD = (2 * (0.02**2 + 0.6 * 0.4 / 1000)) ** 0.5
"""Of a difference, as the specification assumes it: seeds of .02, a thousand prompts at .6."""


def one(values: Sequence[float], margin: float = 0.06) -> Finding:
    return find({"h": values}, {"h": margin})["h"]


def test_the_four_verdicts() -> None:
    assert one([0.2, 0.22, 0.18, 0.21, 0.19]).verdict == "seen"
    assert one([-0.2, -0.22, -0.18, -0.21, -0.19]).verdict == "contrary"
    assert one([0.01, -0.012, 0.004, -0.006, 0.002]).verdict == "not seen"
    assert one([0.2, -0.22, 0.05, -0.1, 0.14]).verdict == "undecided"


def test_equal_runs_differ_by_nothing_and_a_constant_difference_leaves_no_doubt() -> None:
    same = one([0.0] * 5)
    assert (same.mean, same.low, same.high, same.p, same.verdict) == (0, 0, 0, 1, "not seen")
    assert one([0.1] * 5).verdict == "seen"
    assert one([0.1] * 5).detectable == 0


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, count = np.random.default_rng(0), 2000
    found = find(
        {str(i): rng.normal(0.03, SD, 5).tolist() for i in range(count)}, {str(i): 0.06 for i in range(count)}
    )
    covered = np.mean([f.low <= 0.03 <= f.high for f in found.values()])
    assert abs(covered - 0.95) < 4 * (0.95 * 0.05 / count) ** 0.5


def test_equivalence_is_found_wrongly_one_time_in_twenty_at_the_margin() -> None:
    rng, count, margin = np.random.default_rng(1), 4000, 0.06
    inside = [one(rng.normal(margin, 0.01, 5).tolist(), margin).inside for _ in range(count)]
    assert abs(np.mean(inside) - 0.05) < 4 * (0.05 * 0.95 / count) ** 0.5


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    differences = {"a": [0.1, 0.12, 0.11, 0.09], "b": [0.02, 0.05, 0.03, -0.004]}
    together = find(differences, {"a": 0.06, "b": 0.06})
    alone = one(differences["b"])
    assert alone.holm == alone.p == together["b"].p
    assert together["a"].holm == pytest.approx(2 * together["a"].p)


def test_a_family_of_hypotheses_has_one_false_finding_in_twenty() -> None:
    rng, families = np.random.default_rng(2), 1500
    wrong = [
        any(f.verdict in ("seen", "contrary") for f in find(
            {str(i): rng.normal(0, 1, 5).tolist() for i in range(3)}, {str(i): 0.1 for i in range(3)}).values())
        for _ in range(families)
    ]  # fmt: skip
    assert np.mean(wrong) < 0.05 + 4 * (0.05 * 0.95 / families) ** 0.5


@pytest.mark.parametrize(("seeds", "difference"), [(3, 0.117), (5, 0.060), (8, 0.041)])
def test_what_can_be_detected_is_the_specifications(seeds: int, difference: float) -> None:
    assert detectable(SD, seeds) == pytest.approx(difference, abs=6e-4)
    assert seeds_wanted(SD, difference + 1e-3) == seeds


def test_a_spread_that_no_seeds_overcome_has_its_number_all_the_same() -> None:
    few = seeds_wanted(8.0, 0.3)
    assert detectable(8.0, few) <= 0.3 < detectable(8.0, few - 1)
    # (z(.975) + z(.8))² = 7.849, times the variance over the difference squared.
    assert seeds_wanted(8.0, 0.15) == pytest.approx(7.849 * (8 / 0.15) ** 2, rel=1e-3)


def test_what_can_be_detected_is_found_four_times_in_five() -> None:
    rng, count = np.random.default_rng(3), 2000
    true = detectable(SD, 5)
    seen = [one(rng.normal(true, SD, 5).tolist()).verdict == "seen" for _ in range(count)]
    assert abs(np.mean(seen) - 0.8) < 4 * (0.8 * 0.2 / count) ** 0.5


def test_same_against_same_is_told_apart_one_time_in_twenty() -> None:
    rates = [
        same_against_same(np.random.default_rng(i).normal(size=20).tolist(), 5, resamples=40)
        for i in range(12)
    ]
    assert abs(np.mean([r.rate for r in rates]) - 0.05) < 0.015
    assert sum(r.low <= 0.05 <= r.high for r in rates) >= 9
    assert all(r.high - r.low > 0.01 for r in rates), "wider than a binomial over splits would have it"


def test_arms_that_differ_are_no_same_against_same() -> None:
    """The law fails on a planted fault: two clusters, as if half the runs were of another recipe."""
    rng = np.random.default_rng(0)
    apart = np.concatenate([rng.normal(0, 0.01, 10), rng.normal(1, 0.01, 10)])
    assert same_against_same(apart.tolist(), 5, resamples=40).rate < 0.035, (
        "t tests on two clusters are too cautious"
    )


@given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=8))
def test_signs_are_exact(values: list[float]) -> None:
    p = sign_flips(values)
    assert 2.0 ** (1 - len(values)) <= p <= 1 or (len(values) == 1 and p == 1)
    assert p == sign_flips([-v for v in values])
    if all(v > 0.01 for v in values):
        assert p == pytest.approx(2.0 ** (1 - len(values)))


@pytest.mark.parametrize(
    ("differences", "margins", "message"),
    [
        ({"h": [0.1, 0.2]}, {"h": 1}, "2 seeds say nothing: give at least 3"),
        ({"h": [0.1, 0.2, float("nan")]}, {"h": 1}, "not finite: score a diverged run as chance"),
        ({"h": [0.1, 0.2, 0.3]}, {}, "state a margin"),
    ],
)
def test_what_cannot_be_judged_is_named(differences: dict, margins: dict, message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        find(differences, margins)


def test_detectable_is_told_by_the_level_that_the_first_of_all_hypotheses_needs() -> None:
    values = {name: [0.1, 0.2, 0.15] for name in "abc"}
    alone = find({"a": values["a"]}, {"a": 0.1})["a"]
    together = find(values, dict.fromkeys(values, 0.1))["a"]
    assert alone.detectable == pytest.approx(detectable(alone.sd, 3))
    assert together.detectable == pytest.approx(detectable(alone.sd, 3, 0.05 / 3))
    assert together.detectable > 1.5 * alone.detectable
    assert find({"a": values["a"]}, {"a": 0.1}, unknown=2)["a"].detectable == together.detectable
