"""A tiny run by hand: a recipe of three modalities, a few steps on two documents, a checkpoint, and back."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transfuse import checkpoints
from transfuse.config.recipe import Recipe
from transfuse.model.model import Model
from transfuse.randomness import Key
from transfuse.sequences.batch import collate
from transfuse.sequences.rows import join
from transfuse.training.combiner import Combiner

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
    checkpoints.write_description(folder, recipe_of(), model, {})
    tensors = checkpoints.optimizer_tensors(model, optimizer)
    checkpoints.write_checkpoint(folder, step, model, tensors, {"spent": {"step": step}})


def back(folder: Path) -> tuple[Model, torch.optim.AdamW, checkpoints.Checkpoint]:
    """Model, optimiser and checkpoint, as a run that goes on opens them."""
    _, model = checkpoints.rebuild(folder, plugins())
    saved = checkpoints.read_checkpoint(folder, model)
    optimizer = adam(model)
    checkpoints.restore_optimizer(model, optimizer, saved.optimizer)
    return model, optimizer, saved


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal names, equal bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
