"""Records of runs that never were, whose figures are drawn: what a plan says of them is known beforehand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transfuse.metrics import Figure
from transfuse_lab.comparison.keeping import MADE_BY, PLACE, SECONDS, WEIGHTS
from transfuse_lab.comparison.plan_file import Plan, PlanFile, read_plan
from transfuse_lab.runs.records import RunRecord

PLAN = """
title: Simulated runs
data: digits
records: records
result: simulated.md
hours: 1
arms: {one: {recipe: transfusion}, two: {recipe: chameleon}}
sizes:
  small: {flops: 3e+12, speed: 2e+10}
  large: {flops: 1.2e+13, speed: 4e+10}
groups:
  main: {seeds: [0, 1, 2, 3, 4], shares: [0.25, 0.5]}
  aa: {arms: [one], sizes: [small], seeds: [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]}
  planted: {arms: [one], sizes: [small], seeds: [10, 11, 12, 13]}
  again: {arms: [one], sizes: [small], seeds: [10]}
hypotheses:
  recall: {figure: recall, arms: [one, two], margin: 0.06, primary: true, chance: 0}
  nats: {figure: nats, arms: [one, two], margin: 0.15, primary: true}
  planted: {figure: recall, arms: [one, one], groups: [aa, planted], size: small, margin: 0.06}
scaling:
  recall: {figure: recall, arms: [one, two]}
  nats: {figure: nats, arms: [one, two]}
checks:
  ceilings: {statistic: lowest, figure: ceiling, at_least: 0.99}
  alike: {statistic: apart, figure: ceiling, at_most: 0.01}
  middle: {statistic: mean, figure: recall, size: large, at_least: 0.2, at_most: 0.9}
  spread: {statistic: sd, figure: recall}
  slope: {statistic: slope, figure: recall, size: large, at_least: 0.08}
  speed: {statistic: speed, at_least: 0.7}
  same: {statistic: same, group: again, other: aa, at_most: 0}
  alike-runs: {statistic: false finds, figure: recall, group: aa, at_most: 0.05}
  planted: {statistic: difference, figure: recall, group: planted, other: aa, at_most: 0}
"""
FIGURES = (
    Figure("recall", "Recall", "", "higher", "percent"),
    Figure("nats", "Caption NLL", "nats", "lower"),
    Figure("ceiling", "Ceiling", "", "", "percent", detail=True),
)


def plan_file(folder: Path, text: str = PLAN) -> PlanFile:
    path = folder / "plan.yaml"
    path.write_text(text)
    return read_plan(path)


def simulated(
    plan: Plan, effects: Mapping[str, float] | None = None, sd: float = 0.02, ceiling: float = 0.995
) -> list[RunRecord]:
    """Every run. effects: on recall, by arm or group. Recall rises by .12 an e-fold of compute, nats fall by .2."""
    return [
        record(plan, group, arm, size, share, seed, {**(effects or {})}, sd, ceiling)
        for group, one in plan.groups.items()
        for seed in one.seeds
        for size in one.sizes or plan.sizes
        for arm in one.arms or plan.arms
        for share in sorted({*one.shares, 1.0})
    ]


def record(
    plan: Plan, group: str, arm: str, size: str, share: float, seed: int, effects: Mapping[str, float], sd: float,
    ceiling: float,
) -> RunRecord:  # fmt: skip
    budget = share * plan.sizes[size].flops
    # A run that is made again draws the same numbers.
    draw = np.random.default_rng([seed, [*plan.arms].index(arm), [*plan.sizes].index(size), int(100 * share)])
    more = effects.get(arm, 0) + effects.get(group, 0)
    figures = {
        "recall": 0.4 + 0.12 * float(np.log(budget / 1.2e13)) + more + draw.normal(0, sd),
        "nats": 2.0 - 0.2 * float(np.log(budget / 1.2e13)) - more + draw.normal(0, sd),
        "ceiling": ceiling,
        "train_flops": budget,
        "train_flops_without_output": 0.8 * budget,
        "training_seconds": budget / (plan.sizes[size].speed or 1e10),
    }
    place: dict[str, Any] = {"group": group, "arm": arm, "size": size, "share": share, "axes": {}}
    facts = {
        PLACE: place, SECONDS: figures["training_seconds"], WEIGHTS: f"{figures['recall']}", "documents": budget / 1e8,
        MADE_BY: {"code": "c", "processor": "p"},
    }  # fmt: skip
    named = {"share": f"{share:g}", "group": group, "size": size}
    entry = ";".join([arm, *(f"{key}={value}" for key, value in named.items())])
    return RunRecord(
        entry=entry,
        recipe=arm,
        seed=seed,
        metrics=figures,
        figures=FIGURES,
        settings={"size": size},
        facts=facts,
    )
