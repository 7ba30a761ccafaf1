"""A trained run, opened to be used: its model and data, and documents continued a hundred at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
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


def open_trained(folder: RunFolder, plugins: Plugins, device: torch.device | str = "cpu") -> TrainedRun:
    """The run in a folder, its model on a device. Raises TransfuseError where the data have changed since, or went."""
    recipe, model = folder.load(plugins)
    place = f"{folder.description_file}: data_section"
    data = open_section(folder.description.get("data_section", {}), plugins, place)
    if data.identity() != folder.description.get("data"):
        raise TransfuseError(f"{folder.path}: its data set {data.name} has changed since it was trained")
    return TrainedRun(folder, recipe, model.to(device), data)


def text_and_image(model: Model) -> tuple[str, str]:
    """The names of the modality that writes captions and of the one that shows images."""
    marker_modality = model.layout.marker_modality
    shown = [name for name, modality in model.modalities.items() if modality.labels()]
    if marker_modality is None or len(shown) != 1:
        raise TransfuseError("evaluation and captions need a recipe of text and one modality with markers")
    return marker_modality, shown[0]


def generate_all(
    model: Model, prompts: Sequence[Document], config: GenerationConfig, indices: Sequence[int] | None = None
) -> Iterator[Document]:
    """Each prompt continued, in order; randomness is keyed by its index, a prompt's place among all of them."""
    keys = range(len(prompts)) if indices is None else indices
    for start in range(0, len(prompts), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        yield from generate(model, prompts[part], config, indices=keys[part])


def draw_images(model: Model, prompts: Sequence[Document], image: str, seed: int = 0) -> Iterator[np.ndarray]:
    """One image of the modality ``image`` for each prompt."""
    for document in generate_all(model, prompts, GenerationConfig(want=image, seed=seed)):
        yield document.items[-1].data


def write_captions(model: Model, questions: Sequence[Document], config: GenerationConfig) -> Iterator[str]:
    """The text that ``config.want`` writes after each document; empty where it ends the document at once."""
    for document in generate_all(model, questions, config):
        last = document.items[-1]
        yield last.data if last.modality == config.want else ""
