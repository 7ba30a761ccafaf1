"""``transfuse train``: a run in a folder, which holds all it takes to go on.

Training in a folder that holds the same run resumes it, step for step as if it had never stopped.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transfuse import checkpoints
from transfuse.checkpoints.provenance import origin
from transfuse.config.merge import differing
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.files import read_json, read_mapping
from transfuse.modalities.modality import Report
from transfuse.model.build import build_modalities, build_model, fit_modalities
from transfuse.model.counts import parameter_counts
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.registry.plugins import Plugins
from transfuse.sequences.layout import Layout
from transfuse.sequences.mask_checks import check_columns
from transfuse.sequences.vocabulary import Vocabulary
from transfuse.training.trainer import Spent, Trainer

from transfuse_lab.memory import keep_freed_memory
from transfuse_lab.progress import bar, say

SAVE_EVERY = 60.0  # seconds between checkpoints


def prepare(
    recipe: Recipe,
    data: DataSet,
    plugins: Plugins,
    report: Report,
    codecs: Path | None = None,
    effort: float = 1.0,
) -> Model:
    """The model of a recipe, untrained; its codecs fit to the data, or taken from a folder that holds them."""
    modalities = build_modalities(recipe)
    check_columns(recipe.mask, Layout(modalities, Vocabulary()))
    if codecs is not None:
        checkpoints.restore_codecs(codecs, modalities, origin(recipe, data.identity()))
    else:
        fit_modalities(modalities, data, 0, report, effort)
    return build_model(recipe, modalities, plugins)


def open_run(
    recipe: Recipe,
    data: DataSet,
    section: dict[str, Any],
    folder: Path,
    plugins: Plugins,
    report: Report,
    codecs: Path | None = None,
) -> Trainer:
    """The run in a folder, resumed if the folder holds one.

    Raises TransfuseError where the folder holds another run, naming what differs.
    """
    if (folder / "modalities.json").is_file() and checkpoints.newest(folder):
        _check_same(folder, recipe, data, plugins)
        _, model = checkpoints.rebuild(folder, plugins)
        saved = checkpoints.read_checkpoint(folder, model)
        trainer = Trainer(recipe, model, data)
        try:
            trainer.resume(folder, saved)
        except (KeyError, TypeError) as error:
            path = checkpoints.newest(folder)
            raise TransfuseError(
                f"{path}/state.json is damaged ({error!r}): restore it, or train again"
            ) from error
        report(f"{folder}: going on after step {trainer.spent.step}")
        return trainer
    if checkpoints.remains(folder):
        raise TransfuseError(
            f"{folder} holds a run of which parts are missing (modalities.json or checkpoints/latest): "
            f"restore them, or use another --out"
        )
    began = time.process_time()
    trainer = Trainer(recipe, prepare(recipe, data, plugins, report, codecs), data)
    facts = {
        "data": data.identity(),
        "data_section": section,
        "plugins": versions(plugins),
        "codec_seconds": codec_seconds(codecs) if codecs else time.process_time() - began,
    }
    trainer.check()
    checkpoints.write_description(folder, recipe, trainer.model, facts)
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    save(folder, trainer)
    return trainer


def versions(plugins: Plugins) -> dict[str, str]:
    loaded = (contents.plugin for contents in plugins.loaded)
    return {plugin.name: f"{plugin.distribution} {plugin.version}" for plugin in loaded}


def _check_same(folder: Path, recipe: Recipe, data: DataSet, plugins: Plugins) -> None:
    saved = checkpoints.read_recipe(folder, plugins)
    cure = "use another --out, or repeat the command that began it"
    if saved != recipe:
        raise TransfuseError(f"{folder} holds another run: {differing(saved.dump(), recipe.dump())}; {cure}")
    there = read_mapping(folder / "modalities.json", "run", "data")["data"]
    if there != data.identity():
        raise TransfuseError(
            f"{folder} holds a run on other data: {differing(there, data.identity())}; {cure}"
        )


def make_folder(folder: Path) -> None:
    """Raises TransfuseError where ``--out`` cannot be a folder: a file is in its place, or nothing may be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TransfuseError(f"--out {folder} cannot be a folder: {error.strerror}; give another") from None


def save(folder: Path, trainer: Trainer) -> None:
    tensors = checkpoints.optimizer_tensors(trainer.model, trainer.optimizer)
    average = trainer.average.tensors() if trainer.average is not None else None
    checkpoints.write_checkpoint(folder, trainer.spent.step, trainer.model, tensors, trainer.state(), average)


def train(
    recipe: Recipe,
    data: DataSet,
    section: dict[str, Any],
    folder: Path,
    plugins: Plugins,
    *,
    report: Report = say,
    codecs: Path | None = None,
) -> Trainer:
    """Train until the recipe's budget is spent, or go on with what the folder holds.

    section: what opens the data set again (``{"name": "digits"}``). codecs: a folder of codecs fit
    before (``save_codecs``). Writes ``metrics.jsonl``, a line a step. Interrupted (Ctrl-C,
    SIGTERM), it finishes the step, saves
    and raises KeyboardInterrupt.
    """
    make_folder(folder)
    trainer = open_run(recipe, data, section, folder, plugins, report, codecs)
    log = folder / "metrics.jsonl"
    _forget_after(log, trainer.spent.step)
    with log.open("a") as lines, bar(f"train {recipe.name}") as progress, _interrupts() as interrupted:
        saved = time.monotonic()
        while not trainer.done:
            measured = trainer.step()
            spent = trainer.spent
            line = {"step": spent.step, "flops": spent.flops, "positions": spent.positions, **measured}
            lines.write(json.dumps(line) + "\n")
            losses = "  ".join(f"{k[5:]} {v:.3f}" for k, v in measured.items() if k.startswith("loss_"))
            progress.update(min(1.0, trainer.spent.share(recipe)), f"step {trainer.spent.step}  {losses}")
            if interrupted.is_set() or time.monotonic() - saved > SAVE_EVERY:
                lines.flush()
                save(folder, trainer)
                saved = time.monotonic()
            if interrupted.is_set():
                raise KeyboardInterrupt
        lines.flush()
        save(folder, trainer)
    return trainer


def _forget_after(log: Path, step: int) -> None:
    """Drop the lines of steps after the checkpoint: they will be done again."""
    if log.is_file():
        kept = [line for line in log.read_text().splitlines() if _step_of(line) <= step]
        log.write_text("".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf  # a line that was being written when the process died


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a step is never left half done."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, lambda *_: event.set()) for name in names}
    try:
        yield event
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def codec_seconds(codecs: Path) -> float:
    """Process CPU seconds that fitting a folder's codecs took."""
    return float(read_json(codecs / "seconds.json", "set of codecs"))


def train_facts(folder: Path, model: Model, spent: Spent) -> dict[str, Any]:
    """What a run was, for its record."""
    described = read_json(folder / "modalities.json", "run")
    codecs = {
        name: facts.get("codec") for name, facts in described["modalities"].items() if facts.get("codec")
    }
    return {
        "parameters": parameter_counts(model),
        "steps": spent.step,
        "documents": spent.documents,
        "positions": spent.positions,
        "training_seconds": spent.seconds,
        "codec_seconds": described.get("codec_seconds", 0.0),
        "codecs": codecs,
        "plugins": described.get("plugins", {}),
    }


def train_command(
    recipe: str,
    data: str,
    out: Path | None,
    overrides: tuple[str, ...],
    registry: Path | None,
    dry_run: bool,
    codecs: Path | None = None,
) -> None:
    """``transfuse train``; with ``dry_run`` nothing is trained or written."""
    from transfuse_lab.datasets import data_section

    keep_freed_memory()
    opened = Registry.open(registry)
    section = data_section(data, opened.plugins)
    documents = opened.plugins.choose("dataset", section, "data").build()
    resolved = opened.recipe(recipe, overrides, documents.name)
    if dry_run:
        from transfuse_lab.runs.dry_run import describe

        say(describe(resolved, documents, opened.plugins))
        return
    assert out is not None
    trainer = train(resolved, documents, section, out, opened.plugins, codecs=codecs)
    spent = trainer.spent
    say(f"{out}: {spent.step} steps, {spent.positions:,} positions, {spent.flops:.3g} FLOPs")
    say(f"next: transfuse eval {out}   or   transfuse sample {out} --prompt ... --n 16 --out grid.png")
