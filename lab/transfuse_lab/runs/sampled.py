"""A trained run's recipe, drawn from otherwise: `--set` of `sample` and `eval`, of what no weight depends on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transfuse.config.located import Located
from transfuse.config.parts import PartLookup
from transfuse.config.recipe import Recipe
from transfuse.config.validation import Loc
from transfuse.errors import TransfuseError
from transfuse.registry.overrides import SOURCE, read_overrides


def sampled_otherwise(recipe: Recipe, texts: Sequence[str], plugins: PartLookup) -> Recipe:
    """A trained run's recipe under overrides of how samples are drawn (`Settings.sampled_by`).

    Raises `TransfuseError` for one of anything else, which says what may be set.
    """
    may = {(role, key) for role, part in recipe.modalities.items() for key in part.settings.sampled_by}
    here = Located.from_source("recipe", recipe.dump())
    for link in read_overrides(texts, recipe.modalities):
        for loc in _leaves(link.value):
            words = loc[1:] if loc[0] == "modalities" else loc
            if words[:2] not in may:
                known = ", ".join(sorted(".".join(one) for one in may)) or "nothing"
                raise TransfuseError(
                    f"{SOURCE} {'.'.join(map(str, words))}: is settled by the training; of this run may be set: {known}"
                )
        here = here.merge(link)
    return here.validate(Recipe, plugins)


def _leaves(value: Any, loc: Loc = ()) -> Iterator[Loc]:
    """The places of all that is no mapping."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*loc, key))
    elif loc:
        yield loc
