"""What a plan's records say of its hypotheses, of scaling, and of the instrument itself; plain data, for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from transfuse.errors import TransfuseError

from transfuse_lab.comparison.checks import checked
from transfuse_lab.comparison.keeping import DIVERGED, spent
from transfuse_lab.comparison.plan_file import Hypothesis, PlanFile, Scaling
from transfuse_lab.comparison.selected import BySeed, Selected, Unanswered, paired
from transfuse_lab.comparison.tuned import Tuned
from transfuse_lab.evaluation.scaling import parity, power_law, slopes
from transfuse_lab.evaluation.statistics import summarise
from transfuse_lab.evaluation.verdicts import FEWEST, find, sd_interval, seeds_wanted
from transfuse_lab.runs.records import RunRecord, plain

FORMAT = "transfuse findings 1"
LENSES = ("total", "without output layer", "documents")


def findings(file: PlanFile, records: Sequence[RunRecord], planned: int, tuned: Tuned) -> dict[str, Any]:
    """All of it. planned: how many runs the plan has.

    ``hypotheses.<name>``: what was stated, ``differences`` by seed (positive: the first arm is better), ``finding``
    (`transfuse_lab.evaluation.verdicts.Finding`), or ``why`` there is none. ``scaling.<name>``: each arm's points,
    slope and power law, and parity by lens. ``checks.<name>``: ``values``, bounds, and whether it ``holds``.
    """
    chosen = Selected(file.plan, records)
    return plain(
        {
            "format": FORMAT,
            "plan": {"title": file.plan.title, "file": file.path.name, "sha256": file.digest},
            "tuned": {"file": file.plan.tuned, "sha256": tuned.digest, "at an edge": tuned.edges},
            "runs": {
                "planned": planned,
                "there": len(records),
                "diverged": [f"{one.entry}, seed {one.seed}" for one in records if DIVERGED in one.faults],
                "core_hours": spent(records) / 3600,
                "seeds": {name: list(group.seeds) for name, group in file.plan.groups.items()},
            },
            "hypotheses": _hypotheses(chosen),
            "scaling": {name: _scaling(one, chosen) for name, one in file.plan.scaling.items()},
            "checks": {name: checked(one, chosen, tuned) for name, one in file.plan.checks.items()},
        }
    )


# -- hypotheses


def _hypotheses(chosen: Selected) -> dict[str, dict[str, Any]]:
    stated = chosen.plan.hypotheses
    told: dict[str, dict[str, Any]] = {}
    known: dict[str, list[float]] = {}
    for name, one in stated.items():
        figure = chosen.figure(one.figure)
        told[name] = {
            **one.model_dump(mode="json"),
            "size": one.size or list(chosen.plan.sizes)[-1],
            "title": figure.title, "unit": figure.unit, "form": figure.form, "differences": {}, "why": "",
        }  # fmt: skip
        try:
            told[name]["differences"] = found = differences(one, chosen)
            if len(found) < FEWEST:
                raise Unanswered(f"{len(found)} pairs of runs are there; {FEWEST} are the fewest")
            known[name] = list(found.values())
        except TransfuseError as error:
            told[name]["why"] = str(error)
    together = [name for name, one in stated.items() if one.primary]
    families = [together, *([name] for name in stated if name not in together)]
    for family in families:
        there = {name: known[name] for name in family if name in known}
        found = find(there, {name: stated[name].margin for name in there}, unknown=len(family) - len(there))
        for name, finding in found.items():
            low, high = sd_interval(finding.sd, finding.seeds)
            told[name]["finding"] = {**finding.json(), "sd_low": low, "sd_high": high}
            if finding.sd:
                told[name]["seeds_wanted"] = seeds_wanted(finding.sd, stated[name].margin, 0.05 / len(family))
    return told


def differences(one: Hypothesis, chosen: Selected) -> BySeed:
    """By seed: how much better the first arm is. Raises Unanswered where a figure is missing."""
    groups = one.groups or (chosen.plan.main, chosen.plan.main)
    size = one.size or list(chosen.plan.sizes)[-1]
    axes = dict([one.axis.split("=", 1)]) if one.axis else None
    sides = [
        chosen.values(one.figure, one.chance, group=group, arm=arm, size=size, share=one.share, axes=axes)
        for group, arm in zip(groups, one.arms, strict=True)
    ]
    pairs, sign = list(paired(*sides)), chosen.better(one.figure, one.better)
    scale = abs(float(np.mean([b for *_, b in pairs]))) if one.relative and pairs else 1.0
    return {seed: sign * (a - b) / scale for seed, a, b in pairs}


# -- scaling


def _scaling(one: Scaling, chosen: Selected) -> dict[str, Any]:
    figure, group = chosen.figure(one.figure), one.group or chosen.plan.main
    told: dict[str, Any] = {
        "figure": one.figure, "title": figure.title, "unit": figure.unit, "form": figure.form,
        "better": figure.better, "arms": {}, "parity": {}, "why": "",
    }  # fmt: skip
    try:
        points = {arm: chosen.points(one.figure, group, arm, one.chance) for arm in one.arms}
        sign = chosen.better(one.figure)
    except TransfuseError as error:
        return {**told, "why": str(error)}
    shared = _common([point for found in points.values() for point in found])
    for arm, found in points.items():
        told["arms"][arm] = {"points": found, **_laws(found, shared, figure.better)}
    for lens in LENSES:
        arm, other = (_curve(points[arm], lens, sign, shared) for arm in one.arms)
        try:
            told["parity"][lens] = asdict(parity(arm, other))
        except TransfuseError as error:
            told["parity"][lens] = {"why": str(error)}
    return told


def _common(points: Sequence[Mapping[str, Any]]) -> set[int]:
    """Seeds that all points have."""
    return set.intersection(*({*point["values"]} for point in points)) if points else set()


def _curve(
    points: Sequence[Mapping[str, Any]], lens: str, sign: int, seeds: set[int]
) -> dict[float, list[float]]:
    """Of seeds that all points of both arms have; what costs the same to the digit is one point."""
    found: dict[float, list[list[float]]] = {}
    for point in points if seeds else ():
        values = [sign * point["values"][seed] for seed in sorted(seeds)]
        found.setdefault(point["cost"][lens], []).append(values)
    return {cost: np.mean(values, axis=0).tolist() for cost, values in found.items()}


def _laws(points: Sequence[Mapping[str, Any]], seeds: set[int], better: str) -> dict[str, Any]:
    """Slope an e-fold over seeds; a power law where the figure is a loss."""
    told: dict[str, Any] = {}
    try:
        told["slope"] = summarise(slopes(_curve(points, "total", 1, seeds))).json()
        if better == "lower":
            budgets = [point["cost"]["total"] for point in points]
            means = [float(np.mean([*point["values"].values()])) for point in points]
            told["power_law"] = asdict(power_law(budgets, means))
    except TransfuseError as error:
        told["why"] = str(error)
    return told
