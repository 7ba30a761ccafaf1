"""Each arm's settings searched with equal trials, on the split ``tune``: rates and weights by training, samplers after.

One setting after another, each at the best of those before; a trial is a run like others, and its record is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from transfuse.errors import TransfuseError

from transfuse_lab.comparison.keeping import DIVERGED, record_of
from transfuse_lab.comparison.plan_file import Knob, Plan, Tune
from transfuse_lab.comparison.planned import Planner, with_train
from transfuse_lab.comparison.run import Run
from transfuse_lab.comparison.search import best_of, further, is_interior, next_values, peak, rounded
from transfuse_lab.comparison.tuned import Choice
from transfuse_lab.progress import say
from transfuse_lab.runs.records import RunRecord, entry_name

GROUP = "tune"
Settings = dict[str, float]
Do = Callable[[list[Run]], None]
EXTENSIONS = 3
"""How often a grid of samplers grows."""


class Search:
    """The search of all arms at one size. do: carries runs out, as far as the budget goes."""

    def __init__(self, planner: Planner, size: str, do: Do) -> None:
        self.planner, self.size, self.do = planner, size, do
        self.scores: dict[str, list[dict[float, float]]] = {arm: [] for arm in self.tune.arms}
        self.fixed: dict[str, Settings] = {arm: {} for arm in self.tune.arms}

    @property
    def plan(self) -> Plan:
        return self.planner.plan

    @property
    def tune(self) -> Tune:
        if self.plan.tune is None:
            raise TransfuseError(f"{self.planner.file.path} has no section tune: say what is to be searched")
        return self.plan.tune

    def choices(self) -> dict[str, list[Choice]]:
        """What was chosen for each arm."""
        for place in range(max(len(arm.trained) for arm in self.tune.arms.values())):
            self._train(place)
        found = {arm: self._trained_choices(arm) for arm in self.tune.arms}
        for arm, drawn in self._drawn().items():
            found[arm] += drawn
        return found

    # -- by training

    def _train(self, place: int) -> None:
        """The knob at this place of each arm, until every best is inside; then as many trials for all."""
        active = {arm: one.trained[place] for arm, one in self.tune.arms.items() if place < len(one.trained)}
        for arm in active:
            self.scores[arm].append({})
        while wanted := {
            arm: values
            for arm, knob in active.items()
            if (values := next_values(knob, self.scores[arm][place], self.tune.trials))
        }:
            self._try(active, wanted)
        while wanted := self._fewer():
            self._try({arm: self.tune.arms[arm].trained[len(self.scores[arm]) - 1] for arm in wanted}, wanted)
        for arm, knob in active.items():
            self.fixed[arm][knob.key] = best_of(self.scores[arm][place])

    def _fewer(self) -> dict[str, list[float]]:
        """One more value for each arm that has had fewer trials than another."""
        counts = {arm: sum(map(len, found)) for arm, found in self.scores.items() if found}
        return {
            arm: [further(self.tune.arms[arm].trained[len(self.scores[arm]) - 1], self.scores[arm][-1])]
            for arm, count in counts.items()
            if count < max(counts.values())
        }

    def _try(self, knobs: dict[str, Knob], values: dict[str, list[float]]) -> None:
        cells = [(arm, value) for arm, some in values.items() for value in some]
        settings = [{**self.fixed[arm], knobs[arm].key: value} for arm, value in cells]
        runs = self._runs([arm for arm, _ in cells], settings)
        self.do([run for some in runs for run in some])
        for (arm, value), some in zip(cells, runs, strict=True):
            score = self._score(some, self.tune.score)
            self.scores[arm][len(self.scores[arm]) - 1][value] = score
            say(f"tune {arm} {self.size} {knobs[arm].key}={value:g}: score {score:.4g}")

    def _trained_choices(self, arm: str) -> list[Choice]:
        return [
            Choice(
                knob.key, tuple(sorted(scores.items())), best_of(scores), peak(scores),
                is_interior(scores) or not knob.extend, drawn=False,
            )
            for knob, scores in zip(self.tune.arms[arm].trained, self.scores[arm], strict=True)
        ]  # fmt: skip

    # -- runs

    def _runs(self, arms: Sequence[str], settings: Sequence[Settings], **drawn: Any) -> list[list[Run]]:
        """Of each arm with its settings, a run a seed."""
        recipes, places = {}, {}
        for arm, values in zip(arms, settings, strict=True):
            axes = {key: f"{value:g}" for key, value in values.items()}
            entry = entry_name(arm, {**axes, "size": self.size, "group": GROUP})
            sets = [*(f"{k}={v}" for k, v in axes.items()), "eval.split=tune", *self.tune.set]
            recipe = self.planner.recipe(arm, self.size, sets, self.tune.seeds[0], self.plan.data)
            recipes[entry] = with_train(recipe, flops=self.tune.share * (recipe.train.flops or 0))
            places[entry] = {"group": GROUP, "arm": arm, "size": self.size, "axes": axes, "lens": "total"}
        recipes, data = self.planner.suited(recipes, self.plan.data), self.planner.opened(self.plan.data)
        found = []
        for entry, recipe in recipes.items():
            found.append([])
            for seed in self.tune.seeds:
                run = self.planner.run(
                    entry, {**places[entry], "share": 1.0}, with_train(recipe, seed=seed), data
                )
                kept = self.planner.file.at(self.plan.records) / GROUP / (run.kept.name if run.kept else "")
                found[-1].append(replace(run, kept=kept))
        return found

    def _score(self, runs: Sequence[Run], weights: dict[str, float]) -> float:
        """The weighted sum of figures, the mean over seeds; minus infinity where one diverged."""
        return float(np.mean([self._of(run, record_of(run), weights) for run in runs]))

    def _of(self, run: Run, record: RunRecord | None, weights: dict[str, float]) -> float:
        if record is None:
            raise TransfuseError(
                f"{run.name} was not made: the plan's core-hours are spent; allow more under hours, or search less"
            )
        if DIVERGED in record.faults:
            return float("-inf")
        if lacks := [name for name in weights if name not in record.metrics]:
            why = record.faults.get(lacks[0], "no metric reports it")
            raise TransfuseError(f"{run.name}: tune scores by {lacks[0]}, which it has not: {why}")
        return sum(weight * record.metrics[name] for name, weight in weights.items())

    # -- by drawing

    def _drawn(self) -> dict[str, list[Choice]]:
        """All values with all, on the best run of each arm; a grid grows while its best is at an end."""
        arms = {arm: dict(one.drawn) for arm, one in self.tune.arms.items() if one.drawn}
        scores: dict[str, dict[tuple[float, ...], float]] = {arm: {} for arm in arms}
        if arms:
            self._have_weights(list(arms))
        for _ in range(EXTENSIONS + 1):
            wanted = {
                arm: [cell for cell in product(*grid.values()) if cell not in scores[arm]]
                for arm, grid in arms.items()
            }
            if not any(wanted.values()):
                break
            self._draw(arms, wanted, scores)
            arms = {arm: _grown(grid, scores[arm]) for arm, grid in arms.items()}
        return {arm: _marginal(list(arms[arm]), found) for arm, found in scores.items()}

    def _have_weights(self, arms: Sequence[str]) -> None:
        """The best run of each arm is made again where another sitting left its record alone."""
        lost = [
            replace(run, kept=None)
            for some in self._runs(arms, [self.fixed[arm] for arm in arms])
            for run in some
            if run.folder.latest is None
        ]
        self.do(lost)

    def _draw(
        self,
        arms: dict[str, dict[str, list[float]]],
        wanted: dict[str, list[tuple[float, ...]]],
        scores: dict[str, dict[tuple[float, ...], float]],
    ) -> None:
        weights, cells, runs = self.tune.drawn_score or self.tune.score, [], []
        for arm, some in wanted.items():
            (best,) = self._runs([arm], [self.fixed[arm]])
            for cell in some:
                values = dict(zip(arms[arm], cell, strict=True))
                (drawn,) = self._runs([arm], [{**self.fixed[arm], **values}])
                cells.append((arm, cell))
                runs.append([
                    replace(one, folder=trained.folder, drawn=tuple(f"{k}={v:g}" for k, v in values.items()),
                            place={**one.place, "drawn": True})
                    for one, trained in zip(drawn, best, strict=True)
                ])  # fmt: skip
        self.do([run for some in runs for run in some])
        for (arm, cell), some in zip(cells, runs, strict=True):
            scores[arm][cell] = score = self._score(some, weights)
            named = ", ".join(f"{key}={value:g}" for key, value in zip(arms[arm], cell, strict=True))
            say(f"tune {arm} {self.size} {named}: score {score:.4g}")


def _grown(grid: dict[str, list[float]], scores: dict[tuple[float, ...], float]) -> dict[str, list[float]]:
    """The grid with another value where the best is the last of three or more."""
    best, grown = max(sorted(scores), key=lambda cell: scores[cell]), {}
    for value, (key, values) in zip(best, grid.items(), strict=True):
        ordered = sorted(values)
        if len(ordered) >= 3 and value == ordered[-1]:
            values = [*values, rounded(ordered[-1] ** 2 / ordered[-2])]
        grown[key] = values
    return grown


def _marginal(keys: Sequence[str], scores: dict[tuple[float, ...], float]) -> list[Choice]:
    """Of each key, the scores at the best values of the others."""
    best = max(sorted(scores), key=lambda cell: scores[cell])
    found = []
    for i, key in enumerate(keys):
        line = {
            cell[i]: s for cell, s in scores.items() if cell[:i] + cell[i + 1 :] == best[:i] + best[i + 1 :]
        }
        found.append(
            Choice(key, tuple(sorted(line.items())), best[i], best[i], is_interior(line), drawn=True)
        )
    return found
