"""The runs of a comparison by flags: one for each recipe, value of an axis and seed, all of one budget."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from itertools import product
from types import MappingProxyType
from typing import Any

from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError
from transfuse.registry import Registry

from transfuse_lab.comparison.run import Run, codecs_folder, short_hash, slug
from transfuse_lab.comparison.settings import ComparisonSettings
from transfuse_lab.runs.choices import as_before
from transfuse_lab.runs.records import entry_name

Suit = Callable[[Mapping[str, Recipe], Mapping[str, Recipe]], Mapping[str, Recipe]]
"""Recipes by entry, and of some the recipe that they vary: with what nobody set chosen to suit the data."""


def plan(
    settings: ComparisonSettings,
    registry: Registry,
    identity: Mapping[str, Any],
    suit: Suit = lambda recipes, bases: recipes,
    section: Mapping[str, Any] = MappingProxyType({}),
) -> list[Run]:
    """Every run, seed by seed, so that an early stop leaves pairs. identity: the data set's. suit: is asked once, of
    one seed. section: what opens the data set.

    Folders carry a hash of recipe, data, and versions of transfuse, torch and plugins, so that other
    settings never meet old results. Work on the code itself is not seen: use another ``out`` then.
    Raises TransfuseError where budgets are not equal FLOPs, or no recipe is named.
    """
    recipes = settings.recipes or registry.compared()
    if not recipes:
        raise TransfuseError(
            "compare: no recipe is named: write some behind compare, or in a registry: compare: [transfusion]"
        )
    twice = sorted({name for name in recipes if recipes.count(name) > 1})
    if twice:
        raise TransfuseError(
            f"compare: recipe {twice[0]!r} stands twice; give it once, and what varies as --axis"
        )
    cells, bases = list[tuple[str, Recipe]](), dict[str, Recipe]()
    for seed, name, values in product(settings.seeds, recipes, product(*settings.axes.values())):
        chosen = dict(zip(settings.axes, values, strict=True))
        by_axes = [f"{key}={value}" for key, value in chosen.items()]
        overrides = [*settings.overrides, *by_axes, f"train.seed={seed}"]
        recipe = registry.recipe(name, overrides, identity["name"])
        entry = entry_name(name, chosen)
        cells.append((entry, recipe))
        if settings.axes and entry not in bases:
            with suppress(TransfuseError):  # a value of an axis may be what makes it whole
                bases[entry] = registry.recipe(name, settings.overrides, identity["name"])
    _check_axes(cells, settings.axes)
    _check_budgets(cells, settings.axes)
    firsts = dict[str, Recipe]()
    for entry, recipe in cells:
        firsts.setdefault(entry, recipe)
    suited = suit(firsts, bases)
    made_by = {"transfuse": version("transfuse"), "torch": version("torch"), **registry.plugins.versions}
    runs = []
    for entry, recipe in cells:
        recipe = as_before(recipe, suited[entry].dump())
        digest = short_hash({"recipe": recipe.dump(), "data": identity, "by": made_by})
        folder = RunFolder(settings.out / "runs" / f"{slug(entry, recipe.train.seed)}-{digest}")
        runs.append(Run(entry, recipe, folder, codecs_folder(settings.out, recipe, identity), section))
    return runs


def _check_axes(cells: Sequence[tuple[str, Recipe]], axes: Mapping[str, Sequence[str]]) -> None:
    """Raises TransfuseError where two entries are one and the same recipe, under labels that say otherwise."""
    entries: dict[str, str] = {}
    for name, recipe in cells:
        entry = entries.setdefault(short_hash(recipe.dump()), name)
        if entry != name:
            raise TransfuseError(
                f"compare: {entry} and {name} are one and the same recipe, so --axis "
                f"{' --axis '.join(axes)} would compare it with itself: leave one value out"
            )


def _check_budgets(cells: Sequence[tuple[str, Recipe]], axes: Mapping[str, Sequence[str]]) -> None:
    by_steps = sorted({entry for entry, recipe in cells if recipe.train.flops is None})
    if by_steps:
        raise TransfuseError(
            f"compare: {by_steps[0]} has a budget of steps, and steps of different recipes cost different "
            f"compute; give every recipe the same one with --set train.flops=2e12"
        )
    budgets = {recipe.train.flops for _, recipe in cells}
    if len(budgets) > 1 and "train.flops" not in axes:
        raise TransfuseError(
            f"compare: the recipes have unequal budgets of {sorted(b or 0 for b in budgets)} FLOPs; "
            f"give them one with --set train.flops=2e12, or make it an axis"
        )
