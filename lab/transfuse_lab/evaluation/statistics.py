"""Figures over seeds: a mean with its 95 % t interval, and differences paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, sqrt

import numpy as np
from transfuse.errors import TransfuseError

from transfuse_lab.runs.records import RunRecord

FEWEST = 3  # seeds, below which an interval says nothing


@dataclass(frozen=True)
class Summary:
    """A figure over seeds.

    mean: None where a value is missing, NaN or infinite: a diverged run is not averaged away.
    low, high: the 95 % t interval of the mean; None for fewer than three seeds.
    values: one a seed, in the order of the seeds; None where it is not a finite number.
    """

    mean: float | None
    low: float | None
    high: float | None
    values: tuple[float | None, ...]

    @property
    def verdict(self) -> str:
        """``above``, ``below`` or ``undecided``: where zero lies; ``no interval`` without one."""
        if self.low is None or self.high is None:
            return "no interval"
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "undecided"

    def json(self) -> dict[str, object]:
        """``{mean, low, high, values}``."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "values": list(self.values)}


def summarise(values: Sequence[float | None]) -> Summary:
    """Mean and two-sided 95 % t interval (n - 1 degrees of freedom) of independent values.

    Exactly equal values have an interval of no width.
    """
    kept = tuple(float(v) if v is not None and isfinite(v) else None for v in values)
    finite = [value for value in kept if value is not None]
    if not finite or len(finite) < len(kept):
        return Summary(None, None, None, kept)
    mean = float(np.mean(finite))
    if len(finite) < FEWEST:
        return Summary(mean, None, None, kept)
    from scipy.stats import t

    # Equal values round to a mean a little off them, and so to a deviation that is not quite zero.
    spread = float(np.std(finite, ddof=1)) if len(set(finite)) > 1 else 0.0
    half = float(t.ppf(0.975, len(finite) - 1)) * spread / sqrt(len(finite))
    return Summary(mean, mean - half, mean + half, kept)


def paired_difference(one: Mapping[int, float | None], two: Mapping[int, float | None]) -> Summary:
    """``two`` minus ``one`` over the seeds both have: what seeds share (data, order, noise) cancels."""
    seeds = sorted(one.keys() & two.keys())
    pairs = [(one[seed], two[seed]) for seed in seeds]
    return summarise([None if a is None or b is None else b - a for a, b in pairs])


# -- of records


def by_entry(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs by entry, in the order entries first appear, each sorted by seed.

    Raises TransfuseError for two runs of one entry and seed.
    """
    entries: dict[str, list[RunRecord]] = {}
    for record in records:
        entries.setdefault(record.entry, []).append(record)
    for entry, runs in entries.items():
        runs.sort(key=lambda run: run.seed)
        for one, two in pairwise(runs):
            if one.seed == two.seed:
                raise TransfuseError(f"comparison: {entry} has two runs of seed {one.seed}")
    return entries


def metric_names(records: Sequence[RunRecord]) -> list[str]:
    """Every metric some run has, in the order they first appear."""
    return list(dict.fromkeys(name for record in records for name in record.metrics))


def summaries(runs: Sequence[RunRecord]) -> dict[str, Summary]:
    """Each metric of one entry over its seeds."""
    return {name: summarise([run.metrics.get(name) for run in runs]) for name in metric_names(runs)}


def differences(one: Sequence[RunRecord], two: Sequence[RunRecord]) -> dict[str, Summary]:
    """Each metric of ``two`` minus the same of ``one``, paired by seed; without those not shared."""
    shared = {run.seed for run in one} & {run.seed for run in two}
    if not shared:
        return {}
    names = [name for name in metric_names(one) if name in set(metric_names(two))]
    return {name: paired_difference(_by_seed(one, name), _by_seed(two, name)) for name in names}


def _by_seed(runs: Sequence[RunRecord], name: str) -> dict[int, float | None]:
    return {run.seed: run.metrics.get(name) for run in runs}
