"""Whether the instrument can be trusted: bounds that a plan states for its own runs, held against their records."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from transfuse.errors import TransfuseError

from transfuse_lab.comparison.keeping import PLACE, WEIGHTS
from transfuse_lab.comparison.plan_file import Check
from transfuse_lab.comparison.selected import Selected, Unanswered, paired
from transfuse_lab.comparison.tuned import Tuned
from transfuse_lab.evaluation.scaling import slopes
from transfuse_lab.evaluation.verdicts import FEWEST, same_against_same, sd_interval, seeds_wanted

TIMES = ("positions_per_second", "training_seconds", "evaluation_seconds", "peak_memory")
"""Figures that no two runs share."""
Values = Mapping[str, float]


def checked(check: Check, chosen: Selected, tuned: Tuned) -> dict[str, Any]:
    """``values`` by name, bounds, and whether all lie within: None, and ``why``, where records are missing."""
    told = {
        **check.model_dump(mode="json"),
        "title": chosen.figure(check.figure).title,
        "values": {},
        "why": "",
    }
    try:
        values = STATISTICS[check.statistic](check, chosen, tuned)
    except TransfuseError as error:
        return {**told, "holds": None, "why": str(error)}
    low, high = check.at_least, check.at_most
    judged = [value for name, value in values.items() if not name.endswith(UNJUDGED)]
    holds = all((low is None or v >= low) and (high is None or v <= high) for v in judged)
    return {**told, "values": dict(values), "holds": holds and bool(judged)}


UNJUDGED = ("(low)", "(high)", "(seeds)")
"""How names of values end that are told beside the one that is judged."""


def _group(check: Check, chosen: Selected) -> str:
    return check.group or chosen.plan.main


def _of_arms(check: Check, chosen: Selected, group: str) -> dict[str, list[float]]:
    """The figure of each arm's runs. A run without it, be it that it diverged, leaves the check unanswered."""
    found = {}
    for arm in chosen.arms(group, check.arms):
        runs = chosen.at(group=group, arm=arm, size=check.size)
        if not runs:
            raise Unanswered(f"no run of {arm} in group {group} is there yet")
        found[arm] = [chosen.value(one, check.figure) for one in runs]
    return found


def _lowest(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    return {arm: min(values) for arm, values in _of_arms(check, chosen, _group(check, chosen)).items()}


def _mean(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    return {arm: float(np.mean(v)) for arm, v in _of_arms(check, chosen, _group(check, chosen)).items()}


def _apart(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    means = _mean(check, chosen, tuned).values()
    return {"apart": max(means) - min(means)}


def _slope(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    found, group = {}, _group(check, chosen)
    for arm in chosen.arms(group, check.arms):
        points = [
            point for point in chosen.points(check.figure, group, arm) if check.size in (None, point["size"])
        ]
        seeds = set.intersection(*({*point["values"]} for point in points)) if points else set()
        curve = {point["cost"]["total"]: [point["values"][s] for s in sorted(seeds)] for point in points}
        found[arm] = float(np.mean(slopes(curve)))
    return found


def _sides(check: Check, chosen: Selected, group: str) -> list[tuple[int, float, float]]:
    """Pairs of the first two arms."""
    one, other, *_ = chosen.arms(group, check.arms)
    size = check.size or chosen.sizes(group)[-1]
    pairs = paired(*(chosen.values(check.figure, None, group=group, arm=a, size=size) for a in (one, other)))
    if not (found := list(pairs)):
        raise Unanswered(f"group {group} has no pair of {one} and {other} yet")
    return found


def _sd(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    apart = [a - b for _, a, b in _sides(check, chosen, _group(check, chosen))]
    if len(apart) < FEWEST:
        raise Unanswered(f"{len(apart)} pairs are there; {FEWEST} are the fewest that have a spread")
    sd = float(np.std(apart, ddof=1))
    low, high = sd_interval(sd, len(apart))
    told = {"sd": sd, "(low)": low, "(high)": high}
    if check.wanted and sd:
        told[f"for a difference of {check.wanted:g} (seeds)"] = float(
            seeds_wanted(sd, check.wanted, check.level)
        )
    return told


def _speed(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    """Of runs of the main arms at each size, the median over what is planned."""
    found = {}
    for size, planned in chosen.plan.sizes.items():
        shares = [
            one.metrics["train_flops"] / one.metrics["training_seconds"] / planned.speed
            for arm in chosen.arms(chosen.plan.main, check.arms)
            for one in chosen.at(size=size, group=check.group, arm=arm)
            if planned.speed and one.metrics.get("training_seconds")
        ]
        found |= {size: float(np.median(shares))} if shares else {}
    if not found:
        raise Unanswered("no run of a size with a planned speed is there yet")
    return found


def _same(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    """Of each run of the group, how many figures (and whether weights) differ from the run it repeats."""
    if check.other is None:
        raise Unanswered("say `other`: the group whose runs are repeated")
    found = {}
    group = _group(check, chosen)
    runs = [
        one for arm in chosen.arms(group, check.arms) for one in chosen.at(group=group, arm=arm, share=None)
    ]
    for one in runs:
        place = {key: one.facts[PLACE][key] for key in ("arm", "size", "share")}
        twins = [
            two
            for two in chosen.at(group=check.other, **place)
            if two.seed == one.seed and two.settings == one.settings
        ]
        if not twins:
            raise Unanswered(f"{one.entry}, seed {one.seed}: the run it repeats is not in {check.other}")
        for two in twins:
            names = {*one.metrics, *two.metrics} - {*TIMES}
            unlike = sum(one.metrics.get(name) != two.metrics.get(name) for name in names)
            unlike += one.facts.get(WEIGHTS) != two.facts.get(WEIGHTS)
            found[f"{one.entry}, seed {one.seed}"] = float(unlike)
    if not found:
        raise Unanswered("no run and the one it repeats are there yet")
    return found


def _interior(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    """Of what was trained for; a sampler's best may lie at an end of its own accord, such as a guidance of 1."""
    choices = [
        one for sizes in tuned.choices.values() for found in sizes.values() for one in found if not one.drawn
    ]
    if not choices:
        raise Unanswered("nothing is tuned yet")
    return {"interior": float(np.mean([one.interior for one in choices]))}


def _false_finds(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    """The interval's low end is what a bound of 5 % has to lie above: the rate itself is of few runs."""
    found: dict[str, float] = {}
    for arm, values in _of_arms(check, chosen, _group(check, chosen)).items():
        same = same_against_same(values, check.seeds)
        found |= {arm: same.low, f"{arm}: to (high)": same.high, f"{arm}: found (low)": same.rate}
    return found


def _difference(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    if check.other is None:
        raise Unanswered("say `other`: the group that it is compared with")
    found = {}
    for arm in chosen.arms(_group(check, chosen), check.arms):
        size = check.size or chosen.sizes(_group(check, chosen))[-1]
        sides = [
            chosen.values(check.figure, None, group=group, arm=arm, size=size)
            for group in (_group(check, chosen), check.other)
        ]
        apart = [a - b for _, a, b in paired(*sides)]
        if not apart:
            raise Unanswered(f"no seed of {arm} is in both groups yet")
        found |= {arm: float(np.mean(apart)), f"{arm} (seeds)": float(len(apart))}
    return found


def _sign(check: Check, chosen: Selected, tuned: Tuned) -> Values:
    """1 where the arms differ to the same side as in the other group, -1 where to another; 0 where one of the
    differences is less than is ``wanted``, and says nothing."""
    if check.other is None:
        raise Unanswered("say `other`: the group whose sign is to be kept")
    here, there = (
        float(np.mean([a - b for _, a, b in _sides(check, chosen, group)]))
        for group in (_group(check, chosen), check.other)
    )
    large = min(abs(here), abs(there)) >= (check.wanted or 0.0)
    return {"sign": float(np.sign(here * there)) if large else 0.0, "here (low)": here, "there (high)": there}


STATISTICS: dict[str, Callable[[Check, Selected, Tuned], Values]] = {
    "lowest": _lowest, "mean": _mean, "apart": _apart, "slope": _slope, "sd": _sd, "speed": _speed, "same": _same,
    "interior": _interior, "false finds": _false_finds, "difference": _difference, "sign": _sign,
}  # fmt: skip
"""How each is computed; Unanswered where records are missing."""
