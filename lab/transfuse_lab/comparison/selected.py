"""Records of a plan's runs, asked for by their place: group, arm, size, share of the budget, axes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.metrics import Figure

from transfuse_lab.comparison.keeping import DIVERGED, PLACE
from transfuse_lab.comparison.plan_file import Plan
from transfuse_lab.report.figures import figures_of
from transfuse_lab.runs.records import RunRecord

BySeed = dict[int, float]


class Unanswered(TransfuseError):
    """The records do not hold what is asked for, yet."""


@dataclass(frozen=True)
class Selected:
    """Records of a plan."""

    plan: Plan
    records: Sequence[RunRecord]

    def at(self, **place: Any) -> list[RunRecord]:
        """Those whose place has these values; a value of None is any. Of whole runs, unless a share is asked for."""
        place = {"share": 1.0, **place}
        wanted = {key: value for key, value in place.items() if value is not None}
        return [
            one
            for one in self.records
            if all(one.facts.get(PLACE, {}).get(key) == value for key, value in wanted.items())
        ]

    def values(self, figure: str, chance: float | None = None, **place: Any) -> BySeed:
        """A figure by seed. chance: what a run that diverged scores.

        Raises Unanswered where a run has no such figure, one diverged and nobody says what it scores, or runs of one
        seed differ in what was not asked for.
        """
        found: BySeed = {}
        for one in self.at(**place):
            if one.seed in found:
                raise Unanswered(
                    f"{one.entry}: several runs of seed {one.seed} fit: say which `axis` or `size` is meant"
                )
            found[one.seed] = self.value(one, figure, chance)
        return found

    def value(self, record: RunRecord, figure: str, chance: float | None = None) -> float:
        """A run's figure."""
        if figure in record.metrics:
            return record.metrics[figure]
        name = f"{record.entry}, seed {record.seed}"
        if DIVERGED in record.faults:
            if chance is None:
                raise Unanswered(f"{name} diverged: {record.faults[DIVERGED]}")
            return chance
        why = record.faults.get(figure) or f"it has none; {did_you_mean(figure, record.metrics)}"
        raise Unanswered(f"{figure} of {name}: {why}")

    def figure(self, name: str) -> Figure:
        """What a figure is."""
        return figures_of(self.records).get(name) or Figure(name=name, title=name.replace("_", " "))

    def better(self, name: str, said: str | None = None) -> int:
        """1 where higher is better, -1 where lower is. Raises Unanswered where nobody says."""
        which = said or self.figure(name).better
        if not which:
            raise Unanswered(
                f"{name} does not say which way is better: say `better: higher` or `better: lower`"
            )
        return 1 if which == "higher" else -1

    def arms(self, group: str, named: Sequence[str] | None = None) -> list[str]:
        """Of a group."""
        return list(named or self.plan.groups[group].arms or self.plan.arms)

    def sizes(self, group: str) -> list[str]:
        """Of a group."""
        return list(self.plan.groups[group].sizes or self.plan.sizes)

    def points(self, figure: str, group: str, arm: str, chance: float | None = None) -> list[dict[str, Any]]:
        """Of an arm, each size and share with its figures by seed and what it cost, by lens; by FLOPs, rising."""
        found = []
        for size in self.sizes(group):
            for share in sorted({*self.plan.groups[group].shares, 1.0}):
                records = self.at(group=group, arm=arm, size=size, share=share)
                if not records:
                    continue
                values = {one.seed: self.value(one, figure, chance) for one in records}
                found.append({"size": size, "share": share, "values": values, "cost": self._cost(records)})
        return sorted(found, key=lambda point: point["cost"]["total"])

    @staticmethod
    def _cost(records: Sequence[RunRecord]) -> dict[str, float]:
        """Means over runs that did not diverge."""
        costs = [cost for one in records if (cost := costs_of(one))]
        if not costs:
            raise Unanswered(f"all runs of {records[0].entry} diverged")
        return {lens: float(np.mean([cost[lens] for cost in costs])) for lens in costs[0]}


def costs_of(record: RunRecord) -> dict[str, float]:
    """What a run cost by lens; nothing where it diverged."""
    if "train_flops" not in record.metrics:
        return {}
    total = record.metrics["train_flops"]
    return {
        "total": total,
        "without output layer": record.metrics["train_flops_without_output"],
        "documents": float(record.facts["documents"]),
    }


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Iterator[tuple[int, float, float]]:
    """Seed and both values, of seeds that both have."""
    for seed in sorted(one.keys() & other.keys()):
        yield seed, one[seed], other[seed]
