"""Figures against compute: the compute ratio at which one arm matches another, and power laws with their residuals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log
from typing import Literal

import numpy as np
from transfuse.errors import TransfuseError

Curve = Mapping[float, Sequence[float]]
"""A figure, better if higher, by training FLOPs: a value a seed, the seeds in one order at every point."""


@dataclass(frozen=True)
class Parity:
    """How many times its compute an arm can do without and still match the other at its largest.

    ratio: the other's FLOPs over those at which this arm reaches the same figure; over 1 it needs less.
    censored: ``never``: this arm does not reach the figure at all, so the ratio is below ``ratio``, that at its own
    largest; ``always``: it is beyond it at its smallest, so the ratio is above ``ratio``.
    low, high: the 95 % interval by bootstrap over seeds; a share of resamples beyond the range counts as its end.
    never, always: those shares.
    """

    ratio: float
    censored: Literal["", "never", "always"]
    low: float
    high: float
    never: float
    always: float


def parity(arm: Curve, other: Curve, resamples: int = 2000, seed: int = 0) -> Parity:
    """The parity ratio of ``arm`` against ``other`` at the other's largest compute.

    Between points the mean over seeds is made to rise (isotonic regression) and joined by lines in log FLOPs.
    Raises TransfuseError for fewer than two points of the arm, unequal numbers of seeds, or what is not finite.
    """
    one, two = _checked("parity: the arm", arm), _checked("parity: the other", other)
    if len(one[0]) < 2:
        raise TransfuseError("parity: the arm has one point: train it to at least two budgets")
    if one[1].shape[1] != two[1].shape[1]:
        raise TransfuseError(f"parity: {one[1].shape[1]} seeds against {two[1].shape[1]}: give both the same")
    rng, seeds = np.random.default_rng(seed), one[1].shape[1]
    ratio, censored = _ratio(one, two)
    draws = [rng.integers(seeds, size=seeds) for _ in range(resamples)]
    drawn = [_ratio((one[0], one[1][:, d]), (two[0], two[1][:, d])) for d in draws]
    low, high = np.quantile([r for r, _ in drawn], [0.025, 0.975])
    never, always = (float(np.mean([c == word for _, c in drawn])) for word in ("never", "always"))
    return Parity(ratio, censored, float(low), float(high), never, always)


def _checked(name: str, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Log FLOPs in order, and values ``[points, seeds]``."""
    flops = sorted(curve)
    if not flops or len({len(curve[f]) for f in flops}) != 1 or not len(curve[flops[0]]):
        raise TransfuseError(f"{name}: the points need one number of seeds each, the same at all")
    values = np.array([list(curve[f]) for f in flops], float)
    if flops[0] <= 0 or not np.isfinite(values).all():
        raise TransfuseError(f"{name}: a figure is not finite, or FLOPs that are not over 0")
    return np.log(flops), values


def _ratio(
    arm: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> tuple[float, Literal["", "never", "always"]]:
    from scipy.optimize import isotonic_regression

    wanted, spent = other[1][-1].mean(), other[0][-1]
    rising = np.asarray(isotonic_regression(arm[1].mean(1)).x)
    if wanted > rising[-1]:
        return exp(spent - arm[0][-1]), "never"
    if wanted < rising[0]:
        return exp(spent - arm[0][0]), "always"
    at = int(np.argmax(rising >= wanted))  # the first point that reaches it
    if at == 0:
        return exp(spent - arm[0][0]), ""
    share = (wanted - rising[at - 1]) / (rising[at] - rising[at - 1])
    return exp(spent - (arm[0][at - 1] + share * (arm[0][at] - arm[0][at - 1]))), ""


def slopes(curve: Curve) -> list[float]:
    """The change of the figure for e times the compute, by least squares, of each seed.

    Raises TransfuseError for fewer than two points.
    """
    logs, values = _checked("slope", curve)
    if len(logs) < 2:
        raise TransfuseError("slope: one point has none: train to at least two budgets")
    return [float(slope) for slope in np.polyfit(logs, values, 1)[0]]


@dataclass(frozen=True)
class PowerLaw:
    """figure ≈ floor + scale · FLOPs^-exponent, fit to logarithms where ``floor`` is 0.

    residuals: relative, of each point: what the law does not explain. slope: change of the figure for e times the
    compute, at the largest.
    """

    scale: float
    exponent: float
    floor: float
    residuals: tuple[float, ...]
    slope: float

    def at(self, flops: float) -> float:
        return self.floor + self.scale * flops**-self.exponent


def power_law(flops: Sequence[float], figures: Sequence[float], floor: bool = False) -> PowerLaw:
    """The law through losses, all over 0, by least squares of relative errors.

    floor: whether to fit what no compute takes away; wants four points. Raises TransfuseError for fewer points than
    that (two without), or values that are not finite and over 0.
    """
    x, y = np.asarray(flops, float), np.asarray(figures, float)
    fewest = 4 if floor else 2
    if len(x) != len(y) or len(set(x.tolist())) < fewest:
        raise TransfuseError(f"power law: {len(x)} budgets are too few: give at least {fewest} that differ")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all() and (y > 0).all()):
        raise TransfuseError("power law: FLOPs and losses must be finite and over 0")
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    fit = np.array([intercept, -slope, 0.0])
    if floor:
        from scipy.optimize import least_squares

        centre = np.log(x).mean()

        def errors(p: np.ndarray) -> np.ndarray:
            return (p[2] + np.exp(p[0] - p[1] * (np.log(x) - centre))) / y - 1

        start = [intercept + slope * centre, -slope, 0.0]
        bounds = ([-np.inf, 0, 0], [np.inf, np.inf, float(y.min())])
        found = least_squares(
            errors, np.clip(start, *bounds), bounds=bounds, x_scale=[1, 0.1, float(y.min())]
        )
        fit = np.array([found.x[0] + found.x[1] * centre, found.x[1], found.x[2]])
    scale, exponent, low = exp(fit[0]) if fit[0] < log(1e300) else float("inf"), float(fit[1]), float(fit[2])
    modelled = low + np.exp(fit[0] - exponent * np.log(x))
    per_fold = -exponent * (modelled[np.argmax(x)] - low)
    if not isfinite(scale):
        raise TransfuseError("power law: the losses fall too steeply for a law of this form")
    return PowerLaw(scale, exponent, low, tuple(float(r) for r in y / modelled - 1), float(per_fold))
