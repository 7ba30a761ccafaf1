"""One job of a comparison: fit codecs, train and evaluate a run and its branches, or draw from one otherwise."""

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from transfuse.checkpoints import RunFolder
from transfuse.checkpoints.weights import module_tensors
from transfuse.config.recipe import EvalSettings, Recipe
from transfuse.datasets import restrict
from transfuse.errors import TransfuseError
from transfuse.files import replace as replace_folder
from transfuse.files import write_json
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.sequences.rows import Row
from transfuse.training import Diverged, Trainer

from transfuse_lab.comparison.jobs import PATIENCE
from transfuse_lab.comparison.keeping import CODECS, DIVERGED, PLACE, SECONDS, WEIGHTS, small
from transfuse_lab.comparison.run import mask_file
from transfuse_lab.datasets import open_section
from transfuse_lab.drawing.recipe_layout import example
from transfuse_lab.evaluation.evaluate import evaluate
from transfuse_lab.evaluation.run_record import TRAINING, run_record
from transfuse_lab.lock import locked
from transfuse_lab.memory import keep_freed_memory
from transfuse_lab.progress import say
from transfuse_lab.runs.codecs import fit_codecs
from transfuse_lab.runs.made_by import MADE_BY, made_by
from transfuse_lab.runs.records import RunRecord, plain, save_record
from transfuse_lab.runs.trained import TrainedRun
from transfuse_lab.runs.training import train


def fit(job: dict[str, Any], registry: Registry) -> None:
    """Codecs of a recipe, left in ``job["folder"]``."""
    plugins = registry.plugins
    recipe = Recipe.from_dump(job["recipe"], plugins)
    fit_codecs(recipe, open_section(job["data"], plugins), Path(job["folder"]), say, job["device"])


def run(job: dict[str, Any], registry: Registry) -> None:
    """A run trained, and those that branch off it on the way; each of ``job["parts"]`` is measured as it ends."""
    plugins = registry.plugins
    recipe, data = Recipe.from_dump(job["recipe"], plugins), open_section(job["data"], plugins)
    folder = RunFolder(Path(job["folder"]))
    for part in job["parts"]:
        own, began = RunFolder(Path(part["folder"])), time.process_time()
        to_train = partial(
            train, data=data, section=job["data"], plugins=plugins, codecs=Path(job["codecs"]), device=job["device"],
            surveyed=True,
        )  # fmt: skip
        part_recipe = Recipe.from_dump(part["recipe"], plugins)
        try:
            if part["at"] is not None and RunFolder(own.path).latest is None:
                trunk = to_train(recipe, folder=folder.path, until=part["at"])
                _branch_off(folder, trunk, part["at"], own)
            trainer = to_train(part_recipe, folder=own.path)
        except Diverged as error:
            _keep(part, diverged(part, part_recipe, str(error)), time.process_time() - began)
            continue
        seconds, began = trainer.progress.seconds, time.process_time()
        if part["at"] is not None:  # what it shares with the longer run is counted there
            seconds *= part_recipe.train.cooldown
        trained = TrainedRun(own, part_recipe, trainer.model, data)
        with trainer.averaged_weights():
            made = _measured(part, trained, registry)
            weights = weights_hash(trainer.model)
        with suppress(TransfuseError):  # documents too long to draw: the report shows no mask of this run
            row = example(trainer.model.layout, restrict(data, part_recipe.modalities))
            write_json(mask_file(own), drawing(trainer.model, row))
        made = made.model_copy(
            update={"facts": {**made.facts, WEIGHTS: weights, CODECS: Path(job["codecs"]).name}}
        )
        _keep(part, made, seconds + time.process_time() - began)


def draw(job: dict[str, Any], registry: Registry) -> None:
    """A trained run measured anew, with samples drawn otherwise."""
    plugins, began = registry.plugins, time.process_time()
    (part,) = job["parts"]
    folder, recipe = RunFolder(Path(job["folder"])), Recipe.from_dump(part["recipe"], plugins)
    _, model = folder.load(plugins, recipe)
    trained = TrainedRun(folder, recipe, model.to(job["device"]), open_section(job["data"], plugins))
    _keep(part, _measured(part, trained, registry), time.process_time() - began)


def _measured(part: Mapping[str, Any], trained: TrainedRun, registry: Registry) -> RunRecord:
    """The record on the recipe's split, with figures of further splits."""
    recipe, seed = trained.recipe, trained.recipe.train.seed

    def on(settings: EvalSettings) -> RunRecord:
        evaluated = evaluate(trained.model, trained.data, seed, settings, say)
        return run_record(trained, evaluated, registry.metrics(), part["entry"])

    made = on(recipe.eval)
    of_training = {figure.name for figure in TRAINING}
    for split in part["also"]:
        other = on(recipe.eval.changed(split=split, tasks=None))
        made = made.model_copy(
            update={
                "metrics": made.metrics
                | {f"{name}@{split}": v for name, v in other.metrics.items() if name not in of_training},
                "figures": made.figures
                + tuple(
                    replace(
                        one,
                        name=f"{one.name}@{split}",
                        title=f"{one.title}, {split}",
                        detail=True,
                        headline="",
                    )
                    for one in other.figures
                    if one.name not in of_training
                ),
                "faults": made.faults | {f"{name}@{split}": why for name, why in other.faults.items()},
            }
        )
    return made


def diverged(part: Mapping[str, Any], recipe: Recipe, why: str) -> RunRecord:
    """A run whose loss was not finite has no figures, and is not made again: what it scores is its plan's to say."""
    return RunRecord(
        entry=part["entry"], recipe=recipe.name, seed=recipe.train.seed, metrics={}, faults={DIVERGED: why},
        settings=recipe.dump(),
    )  # fmt: skip


def _keep(part: Mapping[str, Any], made: RunRecord, seconds: float) -> None:
    """The record with its place, what made it and what it cost; the small one last, so that it stands for all."""
    facts = {**made.facts, PLACE: part["place"], MADE_BY: made_by(), SECONDS: seconds}
    made = made.model_copy(update={"facts": plain(facts)})
    save_record(Path(part["record"]), made)
    if part["kept"] is not None:
        save_record(Path(part["kept"]), small(made, part["shown"]))


def _branch_off(trunk: RunFolder, trainer: Trainer, at: float, own: RunFolder) -> None:
    """A copy of the longer run as it is now. Raises TransfuseError where it has gone on too far for that."""
    there = trainer.progress.share(trainer.recipe)
    if there - at > 2 * there / trainer.progress.step:  # a step may lead a little beyond
        raise TransfuseError(
            f"{trunk.path} has gone beyond {at:.0%} of its budget, where {own.path.name} leaves it: delete "
            f"{trunk.path}, so that both are made anew"
        )
    partial_copy = own.path.with_name(own.path.name + ".partial")
    shutil.rmtree(partial_copy, ignore_errors=True)
    left = shutil.ignore_patterns(".lock", ".owner", "record.json", "mask.json", "job.json", "log.txt")
    shutil.copytree(trunk.path, partial_copy, ignore=left)
    shutil.rmtree(own.path, ignore_errors=True)
    replace_folder(partial_copy, own.path)


def weights_hash(model: Model) -> str:
    """Of all weights, by which runs that are equal to the bit are known."""
    digest = blake2b(digest_size=8)
    for name, tensor in sorted(module_tensors(model).items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def drawing(model: Model, row: Row) -> dict[str, Any]:
    """The model's mask over a row, and a word for each position."""
    names = model.layout.names
    labels = [
        model.vocabulary.name(int(token)) if token >= 0 else names[mod]
        for token, mod in zip(row.tokens, row.columns["mod"], strict=True)
    ]
    labels = [label.split("[")[0] for label in labels]
    return {"expression": str(model.mask), "drawing": model.mask.draw(row.columns), "labels": labels}


def work(job: dict[str, Any]) -> None:
    """A job that `jobs.Job` describes, done. Its folder is locked meanwhile.

    A process that lost its own comparison may still be saving there, so it is given the time to.
    """
    keep_freed_memory()
    with locked(Path(job["folder"]), wait=PATIENCE):
        {"fit": fit, "run": run, "draw": draw}[job["kind"]](job, Registry.open(job["registry"]))
