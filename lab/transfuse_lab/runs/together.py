"""How ranks that train together begin a run and agree: the first leaves codecs and description, each draws its part."""

import shutil
from collections.abc import Mapping

import torch
from transfuse.checkpoints import RunFolder, restore_codecs, save_codecs
from transfuse.datasets import DataSet
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities, build_model
from transfuse.registry.plugins import Plugins
from transfuse.training import Ranks, Trainer
from transfuse.training.deferred import built

BEGUN = "begun"
"""The folder in a run's in which its codecs lie until the first checkpoint holds them."""


def leave_codecs(run: RunFolder, modalities: Mapping[str, Modality]) -> None:
    """Rank 0 has fit them."""
    shutil.rmtree(run.path / BEGUN, ignore_errors=True)
    save_codecs(run.path / BEGUN, modalities)


def begin_together(run: RunFolder, data: DataSet, plugins: Plugins, ranks: Ranks) -> Trainer:
    """The run that rank 0 described, on each rank with its part of the weights, saved before any step.

    The weights are those that one process would draw, or those of the language model that the recipe starts from; no
    rank ever has all of them. Where a plugin's layers ask for numbers of their weights while they are built, each rank
    builds the whole model first, and keeps its part.
    """
    recipe = run.recipe(plugins)
    modalities = build_modalities(recipe)
    restore_codecs(run.path / BEGUN, modalities)
    model, recording = built(lambda: build_model(recipe, modalities, plugins, start=False))
    if recording is None:
        model = build_model(recipe, modalities, plugins)
    trainer = Trainer(recipe, model, data, ranks=ranks, recording=recording)
    trainer.save(run)
    if ranks.first:
        shutil.rmtree(run.path / BEGUN, ignore_errors=True)
    return trainer


def agreed(ranks: Ranks, *flags: bool) -> list[bool]:
    """Each flag, on every rank: whether any rank has it."""
    if ranks.size == 1:
        return list(flags)
    return [count > 0 for count in ranks.add(torch.tensor([float(flag) for flag in flags])).tolist()]
