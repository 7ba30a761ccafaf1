"""Which value of a setting to try next, and which one to take: pure, of scores alone."""

from collections.abc import Mapping
from math import exp, isfinite, log, sqrt

from transfuse_lab.comparison.plan_file import Knob

Scores = Mapping[float, float]
"""Of each value that was tried; higher is better, and minus infinity where the run diverged."""


def best_of(scores: Scores) -> float:
    """The value with the highest score; of equal ones the lowest."""
    return max(sorted(scores), key=lambda value: scores[value])


def next_values(knob: Knob, scores: Scores, most: int) -> list[float]:
    """What is to be tried now: the grid, then a step beyond its end while the best is there; none when it is inside."""
    left = [value for value in knob.values if value not in scores]
    if left:
        return left
    tried = sorted(scores)
    best = best_of(scores)
    if not knob.extend or len(tried) >= most or best not in (tried[0], tried[-1]):
        return []
    end, inner = (tried[0], tried[1]) if best == tried[0] else (tried[-1], tried[-2])
    return [rounded(end * end / inner)]


def further(knob: Knob, scores: Scores) -> float:
    """A value to try where others got more trials: a step beyond the end if the best is there, else in the wider gap
    beside the best, in its middle by ratio."""
    tried = sorted(scores)
    if outside := next_values(knob, scores, len(tried) + 1):
        return outside[0]
    at = tried.index(best_of(scores))
    gaps = [
        (tried[i + 1] / tried[i], tried[i], tried[i + 1]) for i in (at - 1, at) if 0 <= i < len(tried) - 1
    ]
    _, low, high = max(gaps)
    return rounded(sqrt(low * high))


def is_interior(scores: Scores) -> bool:
    """Whether the best is neither the first nor the last that was tried; of fewer than three there is no inside."""
    tried = sorted(scores)
    return len(tried) < 3 or best_of(scores) not in (tried[0], tried[-1])


def peak(scores: Scores) -> float:
    """The top of the parabola, in the logarithm of the value, through the best and its neighbours; else the best."""
    tried = sorted(scores)
    at = tried.index(best_of(scores))
    if not 0 < at < len(tried) - 1 or tried[at - 1] <= 0:
        return tried[at]
    (a, b, c), (u, v, w) = (
        (log(tried[at - 1]), log(tried[at]), log(tried[at + 1])),
        (scores[tried[at - 1]], scores[tried[at]], scores[tried[at + 1]]),
    )
    if not (isfinite(u) and isfinite(w)):
        return tried[at]
    above = (b - a) ** 2 * (v - w) - (b - c) ** 2 * (v - u)
    below = (b - a) * (v - w) - (b - c) * (v - u)
    return rounded(exp(b - above / (2 * below))) if below else tried[at]


def rounded(value: float) -> float:
    """To three digits, as files and names have it."""
    return float(f"{value:.3g}")
