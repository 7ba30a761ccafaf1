"""Known answer 12 on simulated runs (`make science-check`): what is not there is found as seldom as promised.

And the plan's own checks, on records of runs that never were.
"""

from pathlib import Path

import numpy as np
import pytest
from transfuse_lab.comparison.findings import findings
from transfuse_lab.comparison.tuned import Tuned
from transfuse_lab.evaluation.scaling import parity
from transfuse_lab.evaluation.verdicts import detectable, find, same_against_same

from tests.tiny.simulated import plan_file, simulated

pytestmark = pytest.mark.slow

SD, MARGIN = 0.04, 0.06


def verdicts(truth: float, seeds: int, times: int = 2000, repeated: int = 1) -> dict[str, float]:
    """How often each verdict is given where the true difference is this. repeated: as if a seed were so many."""
    rng = np.random.default_rng(int(1000 * truth) + seeds)
    said = {"seen": 0, "contrary": 0, "not seen": 0, "undecided": 0}
    for _ in range(times):
        differences = np.repeat(rng.normal(truth, SD, seeds), repeated).tolist()
        said[find({"h": differences}, {"h": MARGIN})["h"].verdict] += 1
    return {verdict: count / times for verdict, count in said.items()}


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_no_difference_is_found_in_one_case_of_twenty(seeds: int) -> None:
    told = verdicts(0, seeds)
    assert told["seen"] + told["contrary"] == pytest.approx(0.05, abs=0.02)


def test_prompts_in_place_of_seeds_find_what_is_not_there() -> None:
    told = verdicts(0, 5, 500, repeated=20)
    assert told["seen"] + told["contrary"] > 0.2


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_what_is_called_detectable_is_found_in_four_cases_of_five(seeds: int) -> None:
    told = verdicts(detectable(SD, seeds), seeds)
    assert told["seen"] == pytest.approx(0.8, abs=0.04)
    assert told["contrary"] < 0.01


def test_equivalence_is_not_claimed_of_a_difference_as_large_as_the_margin() -> None:
    told = verdicts(MARGIN, 8)
    assert told["not seen"] < 0.07


def test_runs_of_one_recipe_are_told_apart_as_seldom_as_promised() -> None:
    rates = [
        same_against_same(np.random.default_rng(seed).normal(0, 1, 40).tolist(), 5, resamples=60, seed=seed)
        for seed in range(40)
    ]
    assert np.mean([one.rate for one in rates]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([one.low <= 0.05 <= one.high for one in rates]) > 0.8


def test_a_parity_ratio_covers_the_truth() -> None:
    """Two arms on one line in log FLOPs, the second with 1.5 times the need."""
    rng, budgets, inside = np.random.default_rng(0), np.array([3e12, 6e12, 1.2e13, 2.4e13, 4.8e13]), 0
    for _ in range(100):

        def curve(need: float, rng: np.random.Generator = rng) -> dict[float, list[float]]:
            return {
                float(b): (0.1 * np.log(b / need) - 2.5 + rng.normal(0, 0.02, 5)).tolist() for b in budgets
            }

        found = parity(curve(1.0), curve(1.5), resamples=200)
        inside += found.low <= 1.5 <= found.high
    assert inside >= 80


def test_a_plan_of_simulated_runs_finds_what_was_planted(tmp_path: Path) -> None:
    file = plan_file(tmp_path)
    told = findings(file, simulated(file.plan, {"planted": -0.3}), 99, Tuned())
    assert told["hypotheses"]["planted"]["finding"]["verdict"] == "seen"
    assert told["checks"]["planted"]["holds"]
    turned = findings(file, simulated(file.plan, {"planted": 0.3}), 99, Tuned())
    assert turned["hypotheses"]["planted"]["finding"]["verdict"] == "contrary"
    assert not turned["checks"]["planted"]["holds"]
