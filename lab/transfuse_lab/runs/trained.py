"""A trained run, opened to be used: its model and the data that it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins

from transfuse_lab.datasets import open_section
from transfuse_lab.runs.sampled import sampled_otherwise
from transfuse_lab.runs.stored import decoded


@dataclass(frozen=True)
class TrainedRun:
    """A run's folder, and what it holds: model with the weights to evaluate, and the data it was trained on, raw.

    overrides: how its samples are drawn otherwise than when it was trained; they are in the recipe.
    """

    folder: RunFolder
    recipe: Recipe
    model: Model
    data: DataSet
    overrides: tuple[str, ...] = ()


def open_trained(
    folder: RunFolder,
    plugins: Plugins,
    other: DataSet | None = None,
    device: torch.device | str = "cpu",
    overrides: Sequence[str] = (),
) -> TrainedRun:
    """The run in a folder, its model on a device, with the data it was trained on, or other data.

    overrides: of how samples are drawn. Raises TransfuseError where its own data have changed since, or went.
    """
    recipe, model = folder.load(plugins, sampled_otherwise(folder.recipe(plugins), overrides, plugins))
    model.to(device)
    if other is not None:
        return TrainedRun(folder, recipe, model, decoded(other, model.modalities), tuple(overrides))
    place = f"{folder.description_file}: data_section"
    try:
        data = open_section(folder.description.get("data_section", {}), plugins, place)
    except TransfuseError as error:
        raise TransfuseError(
            f"{error}; to evaluate {folder.path} on data that lie elsewhere now say --data"
        ) from error
    if data.identity() != folder.description.get("data"):
        raise TransfuseError(
            f"{folder.path}: its data set {data.name} has changed since it was trained; to evaluate on what is there "
            f"now say --data"
        )
    return TrainedRun(folder, recipe, model, decoded(data, model.modalities), tuple(overrides))
