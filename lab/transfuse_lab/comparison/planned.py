"""The runs of a plan, seed by seed with arms in turn, so that whenever it is stopped there are pairs.

A run's place, which its record keeps as ``facts.plan``: group, arm, size, share of the budget, axes, and lens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.registry import Registry

from transfuse_lab.comparison.plan_file import Group, Plan, PlanFile
from transfuse_lab.comparison.run import Branch, Run, codecs_folder, short_hash, slug
from transfuse_lab.comparison.tuned import Tuned
from transfuse_lab.datasets import data_section, open_section
from transfuse_lab.evaluation.tasks import checked_evaluable
from transfuse_lab.runs.choices import as_before
from transfuse_lab.runs.records import entry_name
from transfuse_lab.runs.survey import Surveyed, survey_all


@dataclass(frozen=True)
class Data:
    """A data set that is open."""

    section: dict[str, Any]
    data: DataSet
    identity: dict[str, Any]


class Planner:
    """Makes runs of a plan; data sets are opened and looked through once.

    surveyed: by entry, what was found of its recipe.
    """

    def __init__(self, file: PlanFile, registry: Registry, out: Path, tuned: Tuned) -> None:
        self.file, self.registry, self.out, self.tuned = file, registry, out, tuned
        self.surveyed: dict[str, Surveyed] = {}
        self._data: dict[str, Data] = {}
        self._looks: dict[str, Surveyed] = {}

    @property
    def plan(self) -> Plan:
        return self.file.plan

    def runs(self) -> list[Run]:
        """All runs of all groups, in the order in which they are done: what the first group needs first."""
        return [run for name in self.plan.groups for run in self._group(name)]

    def opened(self, text: str) -> Data:
        """What ``--data TEXT`` means."""
        if text not in self._data:
            section = data_section(text, self.registry.plugins)
            data = open_section(section, self.registry.plugins)
            self._data[text] = Data(section, data, data.identity())
        return self._data[text]

    def recipe(self, arm: str, size: str, sets: Sequence[str], seed: int, data: str) -> Recipe:
        """An arm's recipe at a size: the plan's settings, then the arm's, the size's, and these."""
        plan, schedule = self.plan, self.plan.schedule
        return self.registry.recipe(
            plan.arms[arm].recipe,
            [
                "train.steps=null",
                f"train.flops={plan.sizes[size].flops:g}",
                f"train.warmup={schedule.warmup:g}",
                f"train.cooldown={schedule.cooldown:g}",
                *plan.set,
                *plan.arms[arm].set,
                *plan.sizes[size].set,
                *sets,
                f"train.seed={seed}",
            ],
            self.opened(data).identity["name"],
        )

    def suited(self, recipes: Mapping[str, Recipe], text: str) -> dict[str, Recipe]:
        """The recipes with what nobody set chosen to suit the data, which they are held against. Those that differ in
        nothing that matters to the data are looked at once."""
        data, looks = self.opened(text).data, dict[str, str]()
        keys = {entry: _looked_at(recipe, text) for entry, recipe in recipes.items()}
        for entry, recipe in recipes.items():
            checked_evaluable(data, recipe.modalities, recipe.eval)
            if keys[entry] not in self._looks:
                looks.setdefault(keys[entry], entry)
        if looks:
            found = survey_all({entry: recipes[entry] for entry in looks.values()}, data, lambda line: None)
            self._looks |= {keys[entry]: one for entry, one in found.items()}
        for entry, recipe in recipes.items():
            look = self._looks[keys[entry]]
            self.surveyed[entry] = replace(look, recipe=as_before(recipe, look.recipe.dump()))
        return {entry: self.surveyed[entry].recipe for entry in recipes}

    def _group(self, name: str) -> Iterator[Run]:
        group, plan = self.plan.groups[name], self.plan
        data = group.data or plan.data
        cells = list(
            product(group.sizes or plan.sizes, group.arms or plan.arms, product(*group.axes.values()))
        )
        recipes: dict[str, Recipe] = {}
        places: dict[str, dict[str, Any]] = {}
        for size, arm, values in cells:
            axes = dict(zip(group.axes, values, strict=True))
            entry = self.entry(name, arm, size, axes)
            sets = [
                *self.tuned.settings(plan.arms[arm].like or arm, size),
                *group.set,
                *(f"{k}={v}" for k, v in axes.items()),
            ]
            recipes[entry] = self.recipe(arm, size, sets, group.seeds[0], data)
            places[entry] = {"group": name, "arm": arm, "size": size, "axes": axes, "lens": group.lens}
        recipes = self._through_lens(group, self.suited(recipes, data), places)
        for seed, (entry, recipe) in product(group.seeds, recipes.items()):
            yield from self._shares(group, entry, places[entry], with_train(recipe, seed=seed), data)

    def entry(self, group: str, arm: str, size: str, axes: Mapping[str, str]) -> str:
        """A run's name without its seed: ``chameleon;size=128x4``; those of other groups than the first name it."""
        named = {} if group == self.plan.main else {"group": group}
        return entry_name(arm, {**axes, "size": size, **named})

    def _through_lens(
        self, group: Group, recipes: dict[str, Recipe], places: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Recipe]:
        """Budgets in all FLOPs so that arms are equal by the lens; the first arm has the size's."""
        if group.lens == "total":
            return recipes
        from transfuse_lab.comparison.lenses import per_document  # builds models

        costs = {e: per_document(self.surveyed[e], self.registry.plugins) for e in recipes}
        found = {}
        for entry, recipe in recipes.items():
            first = next(e for e in recipes if places[e]["size"] == places[entry]["size"])
            by_lens = costs[first][group.lens] / costs[first]["total"] * (recipe.train.flops or 0)
            found[entry] = with_train(
                recipe, flops=by_lens * costs[entry]["total"] / costs[entry][group.lens]
            )
        return found

    def _is_first(self, group: str, seed: int) -> bool:
        return group in self.plan.groups and seed == self.plan.groups[group].seeds[0]

    def _shares(
        self, group: Group, entry: str, place: dict[str, Any], recipe: Recipe, text: str
    ) -> Iterator[Run]:
        """The run and those that branch off it, the shortest first."""
        data = self.opened(text)
        whole = self.run(entry, {**place, "share": 1.0}, recipe, data, also=group.also)
        for share in sorted({*group.shares} - {1.0}):
            short = with_train(
                recipe, flops=share * (recipe.train.flops or 0), warmup=min(1.0, recipe.train.warmup / share)
            )
            branched = self.run(
                entry_name(entry, {"share": f"{share:g}"}), {**place, "share": share}, short, data,
                branch=Branch(whole, share * (1 - recipe.train.cooldown)),
            )  # fmt: skip
            yield branched
        yield whole

    def run(
        self, entry: str, place: dict[str, Any], recipe: Recipe, data: Data, *,
        also: tuple[str, ...] = (), branch: Branch | None = None,
    ) -> Run:  # fmt: skip
        """A run at a place of the plan."""
        name = slug(entry, recipe.train.seed)
        digest = short_hash({"recipe": recipe.dump(), "data": data.identity, "place": place})
        return Run(
            entry,
            recipe,
            RunFolder(self.out / "runs" / f"{name}-{digest}"),
            codecs_folder(self.out, recipe, data.identity),
            data.section,
            {**place, "data": short_hash(data.identity)},
            self.file.at(self.plan.records) / f"{name}.json",
            also,
            branch,
            shown=branch is None and self._is_first(place["group"], recipe.train.seed),
        )


def with_train(recipe: Recipe, **values: Any) -> Recipe:
    """The recipe with other settings of training."""
    return recipe.model_copy(update={"train": recipe.train.changed(**values)})


def _looked_at(recipe: Recipe, data: str) -> str:
    """All of a recipe that decides how it goes with data."""
    dump = recipe.dump()
    return short_hash([data, dump["modalities"], dump["mask"], dump["train"]["budget"], dump["eval"]])
