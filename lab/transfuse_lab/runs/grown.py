"""A run that begins from another: what goes on, what is new and fit to the data, and what is said of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, restrict
from transfuse.modalities.fit_context import FitContext
from transfuse.modalities.modality import Modality, Report
from transfuse.model.build import fit_modalities, report_left_out
from transfuse.registry.plugins import Plugins
from transfuse.sequences.vocabulary import Vocabulary
from transfuse.training import inherit
from transfuse.training.growing import TakenOver


def inherited_facts(start: RunFolder, there: Recipe, recipe: Recipe) -> dict[str, Any]:
    """By role that the recipe takes over from a run, what brings its modality back. Raises as `inherit`."""
    return {role: start.description["modalities"][role] for role in inherit(start, there, recipe).roles}


def taken_over(start: Path, recipe: Recipe, plugins: Plugins) -> TakenOver:
    """What a recipe's model takes over from a run. Raises as `inherit`."""
    run = RunFolder(start)
    return TakenOver(run, run.recipe(plugins), recipe, plugins)


def grown(
    taken: TakenOver, data: DataSet, report: Report, contexts: Mapping[str, FitContext]
) -> tuple[Mapping[str, Modality], Vocabulary]:
    """The recipe's modalities and vocabulary; codecs of roles that the run has not are fit to the data."""
    recipe, roles, path = taken.recipe, taken.inherited.roles, taken.run.path
    report_left_out(restrict(data, recipe.modalities), recipe, report)
    modalities = taken.modalities(
        lambda new: fit_modalities(new, data, recipe.train.codec_seed, report, contexts=contexts)
    )
    vocabulary = taken.vocabulary(modalities)
    if new := [role for role in recipe.modalities if role not in roles]:
        more = vocabulary.size - taken.inherited.ids
        report(f"{path}: {', '.join(roles)} go on; new are {', '.join(new)}, and {more} ids")
    if gone := [role for role in taken.there.modalities if role not in recipe.modalities]:
        report(f"{path}: {', '.join(gone)} {'is' if len(gone) == 1 else 'are'} left out: not in the recipe")
    return modalities, vocabulary
