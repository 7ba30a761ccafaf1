"""The search of a setting: until the best is inside, with as many trials for all, and the top of a parabola."""

from math import inf, log

import pytest
from transfuse_lab.comparison.plan_file import Knob
from transfuse_lab.comparison.search import best_of, further, is_interior, next_values, peak
from transfuse_lab.comparison.tuned import Choice, Tuned, read_tuned, write_tuned

RATES = Knob(key="train.lr", values=(1e-3, 2e-3, 4e-3))


def hill(top: float, value: float) -> float:
    return -((log(value / top)) ** 2)


def searched(top: float, knob: Knob = RATES, most: int = 12) -> dict[float, float]:
    scores: dict[float, float] = {}
    while values := next_values(knob, scores, most):
        scores |= {value: hill(top, value) for value in values}
    return scores


@pytest.mark.parametrize("top", [1e-4, 2.2e-3, 3.1e-2])
def test_it_goes_on_until_the_best_is_inside(top: float) -> None:
    scores = searched(top)
    assert is_interior(scores)
    assert best_of(scores) == pytest.approx(top, rel=0.5)
    assert peak(scores) == pytest.approx(top, rel=0.02), "a parabola's top is found between the values"


def test_it_stops_at_the_most_and_says_so() -> None:
    scores = searched(1.0, most=5)
    assert len(scores) == 5
    assert not is_interior(scores)
    assert peak(scores) == best_of(scores)


def test_a_grid_that_may_not_grow_is_tried_once() -> None:
    knob = Knob(key="train.drop", values=(0.0, 0.1, 0.2), extend=False)
    scores = {value: value for value in next_values(knob, {}, 9)}
    assert next_values(knob, scores, 9) == []


def test_what_diverged_is_the_worst() -> None:
    scores = {1e-3: 0.1, 2e-3: 0.2, 4e-3: -inf}
    assert best_of(scores) == peak(scores) == 2e-3
    assert is_interior(scores)


def test_further_trials_are_beyond_an_end_or_in_the_wider_gap_beside_the_best() -> None:
    still = Knob(key="loss.image", values=(1.0, 2.0, 8.0), extend=False)
    assert further(still, {1.0: 0, 2.0: 1, 8.0: 0}) == pytest.approx(4.0)
    assert further(still, {1.0: 2, 2.0: 1, 8.0: 0}) == pytest.approx(1.41)
    assert further(RATES, {1e-3: 2, 2e-3: 1, 4e-3: 0}) == pytest.approx(5e-4), "beyond an end that is best"


def test_rates_between_sizes_lie_on_a_line_of_logarithms_and_beyond_them_are_the_nearests(tmp_path) -> None:
    budgets = {"a": 1e12, "b": 1e14, "c": 1e13, "d": 1e16}
    rate = {
        size: Choice("train.lr", ((v, 0.0),), v, v, True, False) for size, v in (("a", 4e-3), ("b", 1e-3))
    }
    scale = {
        size: Choice("image.guidance.scale", ((v, 0.0),), v, v, True, True)
        for size, v in (("a", 2.0), ("b", 3.0))
    }
    tuned = Tuned({"one": {size: [rate[size], scale[size]] for size in ("a", "b")}}, budgets)
    assert tuned.settings("one", "a") == ["train.lr=0.004", "image.guidance.scale=2"]
    assert tuned.settings("one", "c") == ["train.lr=0.002", "image.guidance.scale=2"]
    assert tuned.settings("one", "d") == ["train.lr=0.001", "image.guidance.scale=3"]
    assert tuned.settings("two", "a") == []
    write_tuned(tmp_path / "tuned.json", tuned, {})
    again = read_tuned(tmp_path / "tuned.json", budgets)
    assert again.choices == tuned.choices
    assert again.digest
    alone = Tuned({"one": {"a": [rate["a"]]}}, budgets)
    assert alone.settings("one", "d") == ["train.lr=0.004"]
