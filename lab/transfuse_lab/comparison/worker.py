"""One job of a comparison: fit codecs, or train and evaluate a run."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import restrict
from transfuse.errors import TransfuseError
from transfuse.files import write_json
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.sequences.rows import Row

from transfuse_lab.comparison.jobs import PATIENCE
from transfuse_lab.comparison.plan import mask_file
from transfuse_lab.datasets import open_section
from transfuse_lab.drawing.recipe_layout import example
from transfuse_lab.evaluation.evaluate import evaluate
from transfuse_lab.evaluation.run_record import run_record
from transfuse_lab.lock import locked
from transfuse_lab.memory import keep_freed_memory
from transfuse_lab.progress import say
from transfuse_lab.runs.codecs import fit_codecs
from transfuse_lab.runs.records import save_record
from transfuse_lab.runs.trained import TrainedRun
from transfuse_lab.runs.training import train


def fit(job: dict[str, Any], registry: Registry) -> None:
    """Codecs of a recipe, left in ``job["folder"]``."""
    plugins = registry.plugins
    recipe = Recipe.from_dump(job["recipe"], plugins)
    fit_codecs(recipe, open_section(job["data"], plugins), Path(job["folder"]), say, job["device"])


def run(job: dict[str, Any], registry: Registry) -> None:
    """A run trained and evaluated; its record is written last."""
    plugins = registry.plugins
    folder = RunFolder(Path(job["folder"]))
    recipe, data = Recipe.from_dump(job["recipe"], plugins), open_section(job["data"], plugins)
    trainer = train(
        recipe, data, job["data"], folder.path, plugins, codecs=Path(job["codecs"]), device=job["device"],
        surveyed=True,
    )  # fmt: skip
    trained = TrainedRun(folder, recipe, trainer.model, data)
    with trainer.averaged_weights():
        evaluated = evaluate(trainer.model, data, recipe.train.seed, recipe.eval, say)
        made = run_record(trained, evaluated, registry.metrics(), job["entry"])
    with suppress(TransfuseError):  # documents too long to draw: the report shows no mask of this run
        row = example(trainer.model.layout, restrict(data, recipe.modalities))
        write_json(mask_file(folder), drawing(trainer.model, row))
    save_record(folder.record_file, made)


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
        {"fit": fit, "run": run}[job["kind"]](job, Registry.open(job["registry"]))
