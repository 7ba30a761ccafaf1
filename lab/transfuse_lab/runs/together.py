"""How ranks that train together begin a run and agree: the first leaves codecs and description, each draws its part."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from transfuse.checkpoints import RunFolder, restore_codecs, save_codecs
from transfuse.checkpoints.checkpoint import EMA_FILE, MODEL
from transfuse.datasets import DataSet
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities, build_model
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.sequences.vocabulary import Vocabulary
from transfuse.training import Ranks, Trainer
from transfuse.training.deferred import built
from transfuse.training.growing import TakenOver
from transfuse.training.saving import sound_checkpoint

BEGUN = "begun"
"""The folder in a run's in which its codecs lie until the first checkpoint holds them."""


def leave_codecs(run: RunFolder, modalities: Mapping[str, Modality]) -> None:
    """Rank 0 has fit them."""
    shutil.rmtree(run.path / BEGUN, ignore_errors=True)
    save_codecs(run.path / BEGUN, modalities)


def begin_together(
    run: RunFolder, data: DataSet, plugins: Plugins, ranks: Ranks, taken: TakenOver | None = None
) -> Trainer:
    """The run that rank 0 described, on each rank with its part of the weights, saved before any step.

    The weights are those that one process would draw, or those of the language model that the recipe starts from, or
    of the run that it begins from (``taken``); no rank ever has all of them. Where a plugin's layers ask for numbers of
    their weights while they are built, each rank builds the whole model first, and keeps its part.
    """
    recipe = run.recipe(plugins)
    modalities = build_modalities(recipe)
    restore_codecs(run.path / BEGUN, modalities)
    vocabulary = Vocabulary.from_dump(run.description["vocabulary"])
    model, recording = built(lambda: build_model(recipe, modalities, plugins, vocabulary, start=False))
    begin: Callable[[Model], None] | None = None
    if taken is not None:
        begin = partial(taken.fill, checkpoint=sound_checkpoint(taken.run, ranks, MODEL, EMA_FILE))
    elif recipe.model.pretrained is not None:
        begin = partial(read_pretrained, folder=Path(recipe.model.pretrained))
    inherited = None if taken is None else taken.inherited
    trainer = Trainer(recipe, model, data, inherited, ranks, recording, begin=begin)
    trainer.save(run)
    if ranks.first:
        shutil.rmtree(run.path / BEGUN, ignore_errors=True)
    return trainer


def read_pretrained(model: Model, folder: Path) -> None:
    """The weights of a folder's language model into the model's."""
    model.backbone.load_pretrained(model, folder)


def agreed(ranks: Ranks, *flags: bool) -> list[bool]:
    """Each flag, on every rank: whether any rank has it."""
    if ranks.size == 1:
        return list(flags)
    return [count > 0 for count in ranks.add(torch.tensor([float(flag) for flag in flags])).tolist()]
