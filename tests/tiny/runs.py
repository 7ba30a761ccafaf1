"""A tiny run by hand: a recipe of three modalities, a few steps on two documents, a checkpoint, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transfuse.checkpoints import Checkpoint, RunFolder
from transfuse.checkpoints.checkpoint import OPTIMIZER
from transfuse.config.recipe import Recipe
from transfuse.files import checksum, read_checked, read_json, write_checked, write_json
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.training.combiner import Combiner
from transfuse.training.optimizer import restore_optimizer
from transfuse.training.saving import write_checkpoint

from tests.tiny.models import SECTIONS, TRANSFUSION, captioned, plugins
from tests.tiny.recipes import MODEL

NAMES = ("text", "image", "image_vq")


def recipe_of(train: dict[str, Any] | None = None, **model: int) -> Recipe:
    """All of `NAMES`; settings of training and of the model laid over the tiny ones."""
    dump = {
        "name": "tiny",
        "modalities": {name: SECTIONS[name] for name in NAMES},
        "mask": str(TRANSFUSION),
        "loss": {"text": 1, "image": 5, "image_vq": 1},
        "model": {**MODEL, **model},
        "train": {"steps": 2, **(train or {})},
    }
    return Recipe.from_dump(dump, plugins())


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The trained weights by name, as averages are made of."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def adam(model: Model) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.trained(), lr=1e-2)


def train(model: Model, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    """A few steps; the loss of each."""
    model.train()
    losses = []
    for step in steps:
        sequences = [
            model.layout.sequence(captioned(0), visit=step),
            model.layout.sequence(captioned(1, image="image_vq"), visit=step),
        ]
        batch = collate(join(sequences), model.modalities, Key(0))
        combined = Combiner(recipe_of().loss).combine(model.losses(batch), batch.counts)
        optimizer.zero_grad()
        combined.total.backward()
        optimizer.step()
        losses.append(float(combined.total.detach()))
    return losses


def save(folder: Path, model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    run = RunFolder(folder)
    run.write_description(recipe_of(), model)
    write_checkpoint(run, step, model, optimizer, {"progress": {"step": step}})


def back(folder: Path) -> tuple[Model, torch.optim.AdamW, Checkpoint]:
    """Model, optimiser and checkpoint, as a run that goes on opens them."""
    run = RunFolder(folder)
    model = run.build_model(run.recipe(plugins()), plugins())
    run.checkpoint.load_weights(model)
    optimizer = adam(model)
    restore_optimizer(model, optimizer, run.checkpoint.tensors(OPTIMIZER))
    return model, optimizer, run.checkpoint


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal names, equal bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rewritten(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """A run's recipe and description changed in place, as if the run had been begun with them."""
    run = RunFolder(folder)
    recipe, described = read_json(run.recipe_file, "run"), read_checked(run.description_file, "run")
    change(recipe, described)
    write_json(run.recipe_file, recipe)
    write_checked(run.description_file, {**described, "recipes": [checksum(recipe)]})
