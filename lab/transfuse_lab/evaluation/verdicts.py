"""What paired differences over seeds allow to say, and what they could not have seen.

The unit is a seed: its runs share data order, noise and initial weights, and prompts are the same for all.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import ceil, isfinite, sqrt
from typing import Any, Literal

import numpy as np
from transfuse.errors import TransfuseError

FEWEST = 3  # seeds, below which nothing is said
MANY = 10_000
POWER = 0.8
FINE = 20_000
"""Quantiles of the sd that is found, over which power is a mean."""

Verdict = Literal["seen", "contrary", "not seen", "undecided"]


@dataclass(frozen=True)
class Finding:
    """One hypothesis, tested: the differences between two entries of a figure.

    mean: of the differences, in units of the figure; better is positive. sd: of one difference.
    low, high: the 95 % t interval. p: two-sided, of no difference; holm: the same, corrected for the hypotheses
    that were stated together. inside: the 90 % interval lies within ± margin, so the difference is not beyond it
    (two one-sided tests at 5 %). detectable: the true difference that so many seeds find in four cases of five, at
    the level that Holm asks of the smallest p. The interval is not corrected.
    verdict: ``seen`` (beyond zero, to the stated side), ``contrary`` (beyond zero, to the other), ``not seen``
    (inside the margin), ``undecided``. Where the interval is beyond zero and inside the margin too, it is seen.
    """

    seeds: int
    mean: float
    sd: float
    low: float
    high: float
    p: float
    holm: float
    margin: float
    inside: bool
    detectable: float
    verdict: Verdict

    def json(self) -> dict[str, Any]:
        return asdict(self)


def find(
    differences: Mapping[str, Sequence[float]],
    margins: Mapping[str, float],
    level: float = 0.05,
    unknown: int = 0,
) -> dict[str, Finding]:
    """The findings of hypotheses that were stated together, by name.

    differences: by hypothesis, one a seed, positive on the stated side. margins: of equivalence, each over 0. unknown:
    how many were stated with them whose runs are not all there; they count in the correction.
    A verdict of ``seen`` or ``contrary`` needs Holm's corrected p below ``level``.
    Raises TransfuseError for fewer than three seeds, what is not finite, or a margin that is missing or not positive.
    """
    for name, values in differences.items():
        if len(values) < FEWEST:
            raise TransfuseError(
                f"hypothesis {name!r}: {len(values)} seeds say nothing: give at least {FEWEST}"
            )
        if not all(map(isfinite, values)):
            raise TransfuseError(
                f"hypothesis {name!r}: a difference is not finite: score a diverged run as chance"
            )
        if not margins.get(name, 0) > 0:
            raise TransfuseError(f"hypothesis {name!r}: state a margin of equivalence over 0")
    tested = {name: _t_test(np.asarray(values, float)) for name, values in differences.items()}
    corrected = holm([*(p for *_, p in tested.values()), *[1.0] * unknown])
    found = {}
    for (name, (mean, sd, p)), adjusted in zip(tested.items(), corrected, strict=False):
        n, margin = len(differences[name]), margins[name]
        half = _half_width(sd, n, level)
        inside = abs(mean) + _half_width(sd, n, 2 * level) < margin
        verdict: Verdict = "not seen" if inside else "undecided"
        if adjusted < level:
            verdict = "seen" if mean > 0 else "contrary"
        found[name] = Finding(
            n,
            mean,
            sd,
            mean - half,
            mean + half,
            p,
            adjusted,
            margin,
            inside,
            detectable(sd, n, level / len(corrected)),
            verdict,
        )
    return found


def _t_test(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, standard deviation and two-sided p of no difference; exactly equal differences leave no doubt."""
    from scipy.stats import t

    mean, sd = float(values.mean()), float(values.std(ddof=1)) if len(set(values)) > 1 else 0.0
    if not sd:
        return mean, sd, 0.0 if mean else 1.0
    return mean, sd, 2 * float(t.sf(abs(mean) / sd * sqrt(len(values)), len(values) - 1))


def _half_width(sd: float, n: int, level: float) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - level / 2, n - 1)) * sd / sqrt(n)


def holm(p: Sequence[float]) -> list[float]:
    """p values of hypotheses stated together, corrected (Holm 1979): each is below a level only if one false finding
    among all of them is as unlikely as that."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1)).clip(max=1)
    return stepped[np.argsort(order)].tolist()


def detectable(sd: float, seeds: int, level: float = 0.05, power: float = POWER) -> float:
    """The true mean of paired differences of standard deviation ``sd`` that a t test over ``seeds`` finds so often."""
    return _effect(seeds, level, power) * sd


@cache
def _effect(seeds: int, level: float, power: float) -> float:
    """The same in standard deviations: where the noncentral t is beyond the critical value so often.

    Its tails are a mean over the sd that is found, since scipy's own fail far out, where three seeds get.
    """
    from scipy.optimize import brentq
    from scipy.stats import chi2, norm, t

    spread = np.sqrt(chi2.ppf((np.arange(FINE) + 0.5) / FINE, seeds - 1) / (seeds - 1))
    critical = t.ppf(1 - level / 2, seeds - 1) * spread

    def short(effect: float) -> float:
        shift = effect * sqrt(seeds)
        return float(np.mean(norm.sf(critical - shift) + norm.cdf(-critical - shift))) - power

    most = 1 / sqrt(seeds)
    while short(most) < 0:
        most *= 1.5
    found: Any = brentq(short, 0, most)
    return float(found)


def seeds_wanted(sd: float, difference: float, level: float = 0.05, power: float = POWER) -> int:
    """How many seeds find a true difference in so many cases; at least three.

    Beyond `MANY` it is extrapolated: what is detectable falls with the root of their number.
    """
    seeds = range(FEWEST, MANY + 1)
    enough = bisect_left(seeds, -difference, key=lambda n: -detectable(sd, n, level, power))
    if enough < len(seeds):
        return seeds[enough]
    return ceil(MANY * (detectable(sd, MANY, level, power) / difference) ** 2)


def sd_interval(sd: float, n: int, level: float = 0.05) -> tuple[float, float]:
    """The interval of a standard deviation that n independent normal values show."""
    from scipy.stats import chi2

    low, high = (sd * sqrt((n - 1) / chi2.ppf(q, n - 1)) for q in (1 - level / 2, level / 2))
    return float(low), float(high)


@dataclass(frozen=True)
class SameAgainstSame:
    """How often runs of one and the same recipe are told apart, when split in two at random.

    rate: of false findings. low, high: its 95 % interval by bootstrap over the runs, which a binomial one over the
    splits would make far too narrow, since all splits share few runs.
    """

    runs: int
    rate: float
    low: float
    high: float


def same_against_same(
    values: Sequence[float],
    seeds: int,
    level: float = 0.05,
    splits: int = 400,
    resamples: int = 200,
    seed: int = 0,
) -> SameAgainstSame:
    """The rate of false findings of `find`'s test among runs of one recipe, drawn into two arms of ``seeds`` each.

    Raises TransfuseError for fewer than two arms' worth of runs.
    """
    if len(values) < 2 * seeds:
        raise TransfuseError(
            f"{len(values)} runs are too few for two arms of {seeds}: give at least {2 * seeds}"
        )
    rng, kept = np.random.default_rng(seed), np.asarray(values, float)
    rates = [
        _false_rate(kept[rng.integers(len(kept), size=len(kept))], seeds, level, splits, rng)
        for _ in range(resamples)
    ]
    low, high = np.quantile(rates, [0.025, 0.975])
    return SameAgainstSame(
        len(kept), _false_rate(kept, seeds, level, 10 * splits, rng), float(low), float(high)
    )


def _false_rate(values: np.ndarray, seeds: int, level: float, splits: int, rng: np.random.Generator) -> float:
    order = rng.permuted(np.tile(np.arange(len(values)), (splits, 1)), axis=1)[:, : 2 * seeds]
    differences = values[order[:, :seeds]] - values[order[:, seeds:]]
    sd = differences.std(axis=1, ddof=1)
    return float(np.mean(abs(differences.mean(1)) > np.array(_half_width(1.0, seeds, level)) * sd))


def sign_flips(differences: Sequence[float]) -> float:
    """The exact two-sided p of no difference by flipping signs: no distribution is assumed. At most 20 differences.

    The smallest that n differences can reach is 2^(1-n), so fewer than six never pass 5 %.
    """
    values = np.asarray(differences, float)
    if not 1 <= len(values) <= 20:
        raise TransfuseError(f"all signs of {len(values)} differences are not gone through: give 1 to 20")
    flips = 1 - 2 * ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1)
    sums = abs(flips @ values)
    return float(np.mean(sums >= abs(values.sum()) - 1e-12 * abs(values).sum()))
