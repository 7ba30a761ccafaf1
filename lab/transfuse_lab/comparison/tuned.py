"""What tuning chose for each arm, as `transfuse tune` leaves it in a file and a plan takes it in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
from transfuse.errors import TransfuseError
from transfuse.files import checksum, read_checked, write_checked

FORMAT = "transfuse tuned 1"


@dataclass(frozen=True)
class Choice:
    """Of a setting in one arm at one size.

    key: such as ``train.lr``. tried: each value with its score, by value. best: of those tried. chosen: the top of a
    parabola through the best and its neighbours, where runs were trained for it; else the best. interior: whether the
    best is neither the first nor the last tried, or the grid was one of choices without an order to go on with.
    """

    key: str
    tried: tuple[tuple[float, float], ...]
    best: float
    chosen: float
    interior: bool
    drawn: bool

    def json(self) -> dict[str, Any]:
        return {**self.__dict__, "tried": [list(pair) for pair in self.tried]}


@dataclass(frozen=True)
class Tuned:
    """Choices by arm and size; budgets: FLOPs of each size, along which what was trained is interpolated."""

    choices: Mapping[str, Mapping[str, Sequence[Choice]]] = field(default_factory=dict)
    budgets: Mapping[str, float] = field(default_factory=dict)
    digest: str = ""

    def settings(self, arm: str, size: str) -> list[str]:
        """``key=value`` of an arm at a size, tuned there or not."""
        sizes = self.choices.get(arm, {})
        if size in sizes:
            return [f"{one.key}={one.chosen:.4g}" for one in sizes[size]]
        near = sorted(sizes, key=lambda other: abs(log(self.budgets[other] / self.budgets[size])))
        return [
            f"{one.key}={one.chosen if one.drawn else self._between(arm, one.key, size):.4g}"
            for one in (sizes[near[0]] if near else ())
        ]

    def _between(self, arm: str, key: str, size: str) -> float:
        """Along the line between two sizes that were tuned, in logarithms of setting and FLOPs; beyond them the
        nearest's own, since a line through two that are off misses by far more than they do."""
        points = sorted(
            (log(self.budgets[other]), log(one.chosen))
            for other, found in self.choices[arm].items()
            for one in found
            if one.key == key
        )
        flops, chosen = np.array(points).T
        return exp(float(np.interp(log(self.budgets[size]), flops, chosen)))

    @property
    def edges(self) -> list[str]:
        """What is not interior: ``chameleon 64x4 train.lr``."""
        return [
            f"{arm} {size} {one.key}"
            for arm, sizes in self.choices.items()
            for size, found in sizes.items()
            for one in found
            if not one.interior
        ]


def write_tuned(path: Path, tuned: Tuned, facts: Mapping[str, Any]) -> None:
    """Whole or not at all. facts: of what it was made, such as trials."""
    arms = {
        arm: {size: [one.json() for one in found] for size, found in sizes.items()}
        for arm, sizes in tuned.choices.items()
    }
    write_checked(path, {"format": FORMAT, "arms": arms, **facts})


def read_tuned(path: Path, budgets: Mapping[str, float]) -> Tuned:
    """Raises TransfuseError where the file is not there or damaged."""
    if not path.is_file():
        raise TransfuseError(f"{path} is not there: the plan is tuned first: transfuse tune PLAN")
    told = read_checked(path, "tuned settings", "format", "arms", cure="tune again")
    if told["format"] != FORMAT:
        raise TransfuseError(f"{path}: format {told['format']!r} is not {FORMAT!r}: tune again")
    choices = {
        arm: {
            size: [Choice(**{**one, "tried": tuple(map(tuple, one["tried"]))}) for one in found]
            for size, found in sizes.items()
        }
        for arm, sizes in told["arms"].items()
    }
    return Tuned(choices, budgets, checksum(told))
