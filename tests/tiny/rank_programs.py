"""What ranks do together in tests, each a function of the ranks and of JSON: they train, save and go on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from transfuse.config.recipe import Recipe
from transfuse.documents import Document
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import Batch
from transfuse.sequences.rows import Row
from transfuse.training import Trainer
from transfuse.training.ranks import Ranks

from tests.tiny.datasets import Shapes
from tests.tiny.recipes import overrides


class Double(Trainer):
    """Trains in float64, to tell a wrong sum from a rounded one."""

    def batch(self, row: Row) -> Batch:
        made = super().batch(row)
        wide = (replace(g, x_t=g.x_t.double(), t=g.t.double(), target=g.target.double()) for g in made.groups)
        return replace(made, groups=tuple(wide))


def recipe_of(*settings: str, name: str = "transfusion") -> Recipe:
    registry = Registry.load(Plugins.load(disabled=["adapters", "lab"]), [packaged_file()])
    return registry.recipe(name, overrides(name, *settings))


def model_of(recipe: Recipe, data: Shapes) -> Model:
    from transfuse.model.build import build

    return build(recipe, data, Plugins.load(disabled=["adapters", "lab"]), lambda line: None)


def seldom_both(document: Document) -> Document:
    """Of four documents two are text alone, one an image alone."""
    items = {0: document.items[:1], 1: document.items[:1], 2: document.items[1:]}
    return replace(document, items=items.get(document.id % 4, document.items))


def losses(
    world: Ranks, steps: int, settings: Sequence[str], name: str = "transfusion", seldom: bool = False
) -> dict[str, Any]:
    """What each step measured in float64, and how many numbers of the trained weights lie on this rank."""
    sides = (8, 4) if name == "transfusion" else (8,)
    data = Shapes(sides=sides, reversed_share=0, change=seldom_both if seldom else lambda document: document)
    recipe = recipe_of(*settings, name=name)
    model = model_of(recipe, data).double()
    for modality in model.modalities.values():
        if isinstance(codec := getattr(modality, "codec", None), nn.Module):
            codec.float()  # it is frozen, and encodes as it does alone
    trainer = Double(recipe, model, data, world)
    measured = [trainer.step() for _ in range(steps)]
    return {"steps": measured, "held": sum(part.numel() for part in trainer.shards.trained.values())}
