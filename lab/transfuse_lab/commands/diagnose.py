"""``transfuse diagnose``: whether losses pull the same way, where positions look, what predictions rest on."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transfuse.checkpoints import Checkpoint, RunFolder
from transfuse.config.recipe import Recipe
from transfuse.files import write_json, write_text
from transfuse.registry import Registry
from transfuse.registry.plugins import Plugins

from transfuse_lab.datasets import open_data
from transfuse_lab.device import AUTO, open_device
from transfuse_lab.drawing.diagnosis_picture import diagnosis_picture
from transfuse_lab.evaluation.diagnosis import Diagnosis, diagnose, lines
from transfuse_lab.output_paths import check_folder
from transfuse_lab.progress import bar, say
from transfuse_lab.runs.trained import TrainedRun, open_trained

NAME = "diagnosis"


def diagnose_command(
    runs: Sequence[Path],
    out: Path | None = None,
    rows: int = 32,
    prompts: int = 256,
    every: bool = False,
    split: str | None = None,
    data: str | None = None,
    registry_file: Path | None = None,
    device: str = AUTO,
) -> None:
    """Prints a diagnosis of each run, in the order of their FLOPs, and leaves ``diagnosis.json`` and ``.svg``.

    out: the folder for these; the first run's by default. rows: of training documents, on which gradients are
    taken. prompts: at most so many a task. every: all checkpoints that a run's folder holds, not the newest alone.
    """
    where = runs[0] if out is None else out
    check_folder("--out", where)
    there = open_device(device)
    registry = Registry.open(registry_file)
    asked: dict[str, Any] = {"prompts": prompts} | ({} if split is None else {"split": split})
    found: list[Diagnosis] = []
    with bar("diagnose") as progress:
        for number, folder in enumerate(runs):
            progress.update(number / len(runs), str(folder))
            other = None if data is None else open_data(data, registry.plugins)
            run = open_trained(RunFolder(folder), registry.plugins, other, there)
            run = _asking(run, asked, registry.plugins)
            found += [diagnose(run, checkpoint, rows) for checkpoint in _moments(run, every)]
    found.sort(key=lambda one: (one.flops, one.run))
    for one in found:
        for line in lines(one):
            say(line)
    write_json(where / f"{NAME}.json", [one.dump() for one in found])
    write_text(where / f"{NAME}.svg", diagnosis_picture(found))
    say(f"all of it, by layer and noise: {where / NAME}.json; as a picture: {where / NAME}.svg")


def _asking(run: TrainedRun, asked: dict[str, Any], plugins: Plugins) -> TrainedRun:
    """The run with other settings of its evaluation."""
    dump = run.recipe.dump()
    recipe = Recipe.from_dump({**dump, "eval": {**dump["eval"], **asked}}, plugins, "diagnose")
    return TrainedRun(run.folder, recipe, run.model, run.data)


def _moments(run: TrainedRun, every: bool) -> Iterator[Checkpoint]:
    """The newest checkpoint, or all of them from the first step on, each with its weights in the model."""
    newest = run.folder.checkpoint
    older = newest.folder.parent.glob("[0-9]*") if every else ()
    for path in sorted((p for p in older if p != newest.folder and int(p.name)), key=lambda p: int(p.name)):
        checkpoint = Checkpoint.read(path)
        _load(run, checkpoint)
        yield checkpoint
    if every:
        _load(run, newest)
    yield newest


def _load(run: TrainedRun, checkpoint: Checkpoint) -> None:
    checkpoint.load_weights(run.model)
    if run.recipe.train.ema:
        checkpoint.load_weights(run.model, averaged=True)
