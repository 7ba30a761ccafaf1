"""From a recipe to a model: modalities are built and fit (or restored), then connected."""

from collections import UserDict
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transfuse.attention import BUILT_IN, Backend
from transfuse.config.parts import Chosen
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, Restriction, restrict
from transfuse.errors import RawError, TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.fit_context import CPU, FitContext
from transfuse.modalities.guidance import check_views
from transfuse.modalities.modality import Modality, Report
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.sequences.layout import Layout, check_columns
from transfuse.sequences.vocabulary import Vocabulary, vocabulary_for


def build(
    recipe: Recipe, data: DataSet, plugins: Plugins | None = None, report: Report = print, effort: float = 1.0
) -> Model:
    """A recipe's model, untrained, its codecs fit to a data set's training split.

    plugins: the installed ones by default. report: is told how the codecs' training goes, and which items of the
    data are left out, as the recipe lacks their role. effort: the share of that training to do. Raises
    TransfuseError naming document and item where raw data cannot be used.
    """
    modalities = build_modalities(recipe)
    check_columns(recipe.mask, Layout(modalities, Vocabulary()))
    data = restrict(data, modalities)
    report_left_out(data, recipe, report)
    fit_modalities(modalities, data, recipe.train.codec_seed, report, effort)
    return build_model(recipe, modalities, plugins or Plugins.load())


def report_left_out(data: Restriction, recipe: Recipe, report: Report) -> None:
    """Says what of the training split the recipe does not read, if there is anything."""
    if left_out := data.left_out():
        report(f"{recipe.name} on {data.name}: {left_out}")


def build_modalities(recipe: Recipe) -> dict[str, Modality]:
    """The recipe's modalities, by role, neither fit nor restored yet.

    Raises TransfuseError naming the role whose parts do not go together, or that guidance drops and the
    recipe has not.
    """
    built: dict[str, Modality] = {}
    for role, chosen in recipe.modalities.items():
        try:
            built[role] = replace(chosen, builds=Modality, others=()).build(name=role)
        except TransfuseError as error:
            raise TransfuseError(f"modality {role!r}: {error}") from error
    check_views(built)
    return built


def fit_modalities(
    modalities: Mapping[str, Modality],
    data: DataSet,
    seed: int,
    report: Report,
    effort: float = 1.0,
    contexts: Mapping[str, FitContext] = MappingProxyType({}),
) -> Mapping[str, Modality]:
    """Each codec trained on all raw data of its role in the training split, by a share ``effort``.

    contexts: by role, where to train and to keep the state of it; without one on the CPU, and nowhere.

    Raises TransfuseError naming document and item where raw data cannot be used, and as `check_roles` does.
    """
    check_roles(modalities, data)
    for role, modality in modalities.items():
        try:
            seam.fit(modality, data.raw("train", role), seed, report, effort, contexts.get(role, CPU))
        except RawError as error:
            raise TransfuseError(f"{place_of(data, role, error.number)}: {error}") from error
    return modalities


def check_roles(modalities: Mapping[str, Modality], data: DataSet) -> None:
    """Raises TransfuseError for a role of which the training split has nothing and that predicts no markers either."""
    for role in restrict(data, modalities).lacks():
        if not modalities[role].predicts_markers:
            raise TransfuseError(
                f"data set {data.name!r}: no training document has an item of role {role!r}; leave it out of the "
                f"recipe with --set {role}=null, or call it what the data do"
            )


def place_of(data: DataSet, role: str, number: int) -> str:
    """Which item the ``number``-th raw data of a role is: the place that messages begin with."""
    whole = data.data if isinstance(data, Restriction) else data  # with all items, so that numbers are right
    documents = (whole.document("train", index) for index in range(whole.excerpt("train")))
    items = ((one.source, i) for one in documents for i, x in enumerate(one.items) if x.modality == role)
    source, place = next(islice(items, number, None))
    return f"{source}: item {place} ({role})"


class _OnDemand(UserDict[str, Any]):
    """Attention backends by name; a chosen part is built when it is asked for."""

    def __getitem__(self, name: str) -> Backend:
        if isinstance(found := self.data[name], Chosen):
            self.data[name] = found.build()
        return self.data[name]


def backends(recipe: Recipe, plugins: Plugins) -> tuple[str, Mapping[str, Backend]]:
    """The name of the backend the recipe asks for, and all that are on offer."""
    offered = {name: plugins.choose("attention", name, "attention") for name in plugins.parts("attention")}
    if isinstance(recipe.attention, Chosen):
        offered[recipe.attention.name] = recipe.attention
        return recipe.attention.name, _OnDemand({**BUILT_IN, **offered})
    return recipe.attention, _OnDemand({**BUILT_IN, **offered})


def build_model(
    recipe: Recipe,
    modalities: Mapping[str, Modality],
    plugins: Plugins,
    vocabulary: Vocabulary | None = None,
    *,
    start: bool = True,
) -> Model:
    """The model of a recipe, its weights drawn from ``train.seed``; ``modalities`` fit or restored.

    start: read the weights under ``model.pretrained``, which those of a checkpoint would replace.
    """
    name, offered = backends(recipe, plugins)
    model = Model(
        recipe.model,
        modalities,
        vocabulary or vocabulary_for(modalities),
        recipe.mask,
        seed=recipe.train.seed,
        attention=name,
        backends=offered,
    )
    if start and recipe.model.pretrained is not None:
        model.backbone.load_pretrained(model, Path(recipe.model.pretrained))
    return model
