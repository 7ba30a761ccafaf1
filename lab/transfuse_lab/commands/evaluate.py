"""``transfuse eval``: the figures of a trained run on held-out data, its record, and a picture if asked for."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.files import checksum
from transfuse.registry import Registry

from transfuse_lab.datasets import open_data
from transfuse_lab.device import AUTO, open_device
from transfuse_lab.drawing.pair_grid import Pair, save_pairs
from transfuse_lab.evaluation.evaluate import evaluate
from transfuse_lab.evaluation.run_record import run_record
from transfuse_lab.memory import keep_freed_memory
from transfuse_lab.output_paths import check_file
from transfuse_lab.progress import say
from transfuse_lab.report.figures import figures_of, show
from transfuse_lab.runs.records import Sample, drawing_of, save_record
from transfuse_lab.runs.trained import open_trained

LONGEST = 120
"""Letters of a record's name that says what it is of; where it would be longer, a checksum ends it."""


def eval_command(
    run: Path,
    grid: Path | None = None,
    tasks: tuple[str, ...] = (),
    prompts: int | None = None,
    registry_file: Path | None = None,
    data: str | None = None,
    device: str = AUTO,
    dtype: str | None = None,
    split: str | None = None,
    overrides: tuple[str, ...] = (),
) -> None:
    """Prints the figures and leaves ``RUN/record.json``.

    grid: the file of a picture of real and made. tasks: instead of the recipe's or the data's. prompts: at most
    so many a task. data: instead of what it was trained on. split, dtype: instead of the recipe's ``eval.split`` and
    ``eval.dtype``. overrides: of how samples are drawn. The record is named after
    other data, another split and overrides.
    """
    if grid is not None:
        check_file("--grid", grid)
    there = open_device(device)
    keep_freed_memory()
    registry = Registry.open(registry_file)
    metrics = registry.metrics()
    other = None if data is None else open_data(data, registry.plugins)
    trained = open_trained(RunFolder(run), registry.plugins, other, there, overrides)
    asked = {"tasks": tasks or None, "prompts": prompts, "dtype": dtype, "split": split}
    asked = {key: value for key, value in asked.items() if value is not None}
    dump = trained.recipe.dump()
    recipe = Recipe.from_dump({**dump, "eval": {**dump["eval"], **asked}}, registry.plugins, "eval")
    evaluated = evaluate(trained.model, trained.data, recipe.train.seed, recipe.eval, say)
    record = run_record(replace(trained, recipe=recipe), evaluated, metrics)
    for name, one in figures_of([record]).items():
        say(f"{name:40} {show(one, record.metrics[name])}{f' {one.unit}' if one.unit else ''}")
    for name, reason in record.faults.items():
        say(f"{name:40} not measured: {reason}")
    path = trained.folder.record_file
    apart = [other.name] if other is not None else []
    apart += [recipe.eval.split] if recipe.eval.split != trained.recipe.eval.split else []
    apart += overrides
    if apart:
        name = "-".join(["record", *(re.sub(r"\W+", "-", one).strip("-") for one in apart)])
        long = f"-{checksum(apart)[:8]}" if len(name) > LONGEST else ""
        path = path.with_name(f"{name:.{LONGEST}}{long}.json")
    save_record(path, record)
    say(f"all of it: {path}")
    if grid is not None:
        save_pairs(list(_pairs(record.samples)), grid, "--grid")
        say(f"real and generated: {grid}")


def _pairs(samples: Sequence[Sample]) -> Iterator[Pair]:
    """What was drawn, beside what the documents have."""
    for one in samples:
        if one.made.drawing is not None:
            prompt = ", ".join(given.text or given.role for given in one.given) or one.task
            real = one.truth.drawing if one.truth else None
            yield Pair(prompt, drawing_of(real) if real else None, drawing_of(one.made.drawing), one.split)
