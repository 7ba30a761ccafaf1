"""A trained run, opened to be used: its model and data, and documents continued a hundred at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.documents import Document
from transfuse.errors import TransfuseError
from transfuse.generation import GenerationConfig, generate
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins

from transfuse_lab.datasets import open_section

AT_ONCE = 100  # documents decoded together


@dataclass(frozen=True)
class TrainedRun:
    """A run's folder, and what it holds: model with the weights to evaluate, and the data it was trained on."""

    folder: RunFolder
    recipe: Recipe
    model: Model
    data: DataSet


def open_trained(folder: RunFolder, plugins: Plugins, other: DataSet | None = None) -> TrainedRun:
    """The run in a folder, with the data it was trained on, or other data.

    Raises TransfuseError where its own data have changed since, or went.
    """
    recipe, model = folder.load(plugins)
    if other is not None:
        return TrainedRun(folder, recipe, model, other)
    place = f"{folder.description_file}: data_section"
    data = open_section(folder.description.get("data_section", {}), plugins, place)
    if data.identity() != folder.description.get("data"):
        raise TransfuseError(
            f"{folder.path}: its data set {data.name} has changed since it was trained; to evaluate on what is there "
            f"now say --data"
        )
    return TrainedRun(folder, recipe, model, data)


def generate_all(
    model: Model, prompts: Sequence[Document], config: GenerationConfig, indices: Sequence[int] | None = None
) -> Iterator[Document]:
    """Each prompt continued, in order; randomness is keyed by its index, a prompt's place among all of them."""
    keys = range(len(prompts)) if indices is None else indices
    for start in range(0, len(prompts), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        yield from generate(model, prompts[part], config, indices=keys[part])
