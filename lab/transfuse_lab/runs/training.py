"""Training in a folder, which then holds all it takes to go on.

Where the folder holds the same run, it is resumed, step for step as if it had never stopped. Of ranks that train
together, the first begins a run and writes its folder; then all go on with what it holds.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transfuse.checkpoints import RunFolder, provenance, restore_codecs
from transfuse.config.merge import differing
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, restrict
from transfuse.errors import TransfuseError
from transfuse.modalities.fit_context import FitContext
from transfuse.modalities.modality import Modality, Report
from transfuse.model.build import build_modalities, build_model, fit_modalities, report_left_out
from transfuse.registry.plugins import Plugins
from transfuse.sequences.layout import Layout, check_columns
from transfuse.sequences.vocabulary import Vocabulary
from transfuse.training import ALONE, Diverged, Inherited, Ranks, Trainer
from transfuse.training.deferred import built
from transfuse.training.saving import change_recipe, sound_checkpoint

from transfuse_lab.lock import make_folder
from transfuse_lab.progress import Unseen, bar, say
from transfuse_lab.runs.choices import as_before
from transfuse_lab.runs.codecs import codec_seconds, fit_from
from transfuse_lab.runs.grown import grown, inherited_facts, taken_over
from transfuse_lab.runs.interrupts import interrupts
from transfuse_lab.runs.kept_fits import forget_fits, kept_fits
from transfuse_lab.runs.log import EVENTS, Events, Log, NoLog, keep_until
from transfuse_lab.runs.made_by import MADE_BY, made_by
from transfuse_lab.runs.stored import stored_codecs
from transfuse_lab.runs.survey import Surveyed, survey
from transfuse_lab.runs.together import agreed, begin_together, leave_codecs
from transfuse_lab.runs.tracking import Tracking

MAY_CHANGE = (
    "lr", "warmup", "final_lr", "cooldown", "clip", "budget", "too_long", "steps", "flops", "look_ahead", "save_every",
    "keep_last", "keep_every", "skips", "shard",
)  # fmt: skip
"""Settings of training that a run may go on under others of, since its weights keep their shapes."""
LOOKED_AT = 1000  # training documents, to see which roles are droppable


def prepare(
    recipe: Recipe,
    data: DataSet,
    report: Report,
    codecs: Path | None = None,
    contexts: Mapping[str, FitContext] = MappingProxyType({}),
) -> Mapping[str, Modality]:
    """The modalities of a recipe, their codecs fit to the data, or taken from a folder that holds them."""
    modalities = build_modalities(recipe)
    check_columns(recipe.mask, Layout(modalities, Vocabulary()))
    data = restrict(data, modalities)
    report_left_out(data, recipe, report)
    if codecs is None:
        fit_modalities(modalities, data, recipe.train.codec_seed, report, contexts=contexts)
    else:
        fit_to = data.identity() if stored_codecs(data) is None else fit_from(codecs).get("data", {})
        restore_codecs(codecs, modalities, provenance(recipe, fit_to))
    return modalities


def open_run(
    recipe: Recipe,
    data: DataSet,
    section: dict[str, Any],
    run: RunFolder,
    plugins: Plugins,
    report: Report,
    codecs: Path | None = None,
    start: Path | None = None,
    device: torch.device | str = "cpu",
    ready: Callable[[Surveyed], None] | None = None,
    surveyed: bool = False,
    ranks: Ranks = ALONE,
) -> Trainer:
    """The run in a folder, resumed if the folder holds one; else begun, from the run in ``start`` if one is named.

    What nobody set in the recipe is as the run has it, or the codecs or the run that it begins from; else it is chosen
    to suit the data (`survey`). Codecs are fit on the device, and go on where their training was
    stopped; those that a store's documents were encoded with are taken from the store. Of several ranks the first does
    so alone, and then all open what it left.

    Raises TransfuseError where the folder holds another run, naming what differs.
    """
    if codecs is None and start is None:
        codecs = stored_codecs(data)
    if not ranks.from_first(bool(run.description_file.is_file() and run.latest)):
        apart = ranks.size > 1
        begun = ranks.first_does(
            lambda: _begin(
                run, recipe, data, section, plugins, report, codecs, start, device, ready, surveyed, apart
            )
        )
        if not apart:
            return begun
        run.read_anew("description", "latest", "checkpoint")
        taken = None if start is None else taken_over(start, run.recipe(plugins), plugins)
        return begin_together(run, data, plugins, ranks, taken)
    before = run.recipe(plugins)
    recipe = as_before(recipe, before.dump())
    changed = ranks.first_does(lambda: _changed(run, before, recipe, data))
    inherited = Inherited.of(run.description.get("inherited"))
    if ranks.size == 1:
        trainer = Trainer(recipe, run.build_model(recipe, plugins).to(device), data, inherited)
    else:
        model, recording = built(lambda: run.build_model(recipe, plugins))
        trainer = Trainer(recipe, model, data, inherited, ranks, recording, drawn=False)
    trainer.resume(sound_checkpoint(run, ranks))
    step = trainer.progress.step
    report(f"{run.path}: going on after step {step}")
    if ranks.first:
        forget_fits(run.path)
    if changed:
        history = [*run.description.get("history", ()), {"step": step, "changed": changed}]
        change_recipe(run, recipe, history=history)
        said = ", ".join(f"{key} is {here} (it was {there})" for key, (there, here) in changed.items())
        report(f"{run.path}: from here on {said}")
    if made_by() not in (made := run.description.get(MADE_BY, [])):
        change_recipe(run, recipe, **{MADE_BY: [*made, made_by()]})
    return trainer


def _begin(
    run: RunFolder,
    recipe: Recipe,
    data: DataSet,
    section: dict[str, Any],
    plugins: Plugins,
    report: Report,
    codecs: Path | None,
    start: Path | None,
    device: torch.device | str,
    ready: Callable[[Surveyed], None] | None,
    surveyed: bool,
    apart: bool,
) -> Trainer | None:
    """A run that is not there yet, up to its first checkpoint, before any step; ``apart``: its model is not made, and
    codecs are left for `begin_together`."""
    if run.has_trained_steps:
        raise TransfuseError(
            f"{run.path} holds a run of which parts are missing (modalities.json or checkpoints/latest): "
            f"restore them, or use another --out"
        )
    there = None if start is None else RunFolder(start).recipe(plugins)
    facts: dict[str, Any] = {}
    if start is not None and there is not None:
        recipe = as_before(recipe, there.dump())
        facts = inherited_facts(RunFolder(start), there, recipe)  # what does not go together is told first
    elif codecs is not None:
        recipe = as_before(recipe, fit_from(codecs))
    if not surveyed:
        looked = survey(recipe, data, report, codecs if stored_codecs(data) else None, facts)
        recipe = looked.recipe
        if ready is not None:
            ready(looked)
    began = time.process_time()
    with kept_fits(recipe, data, run.path, report, device) as fits:
        taken = None if start is None else taken_over(start, recipe, plugins)
        if taken is None:
            modalities, vocabulary = prepare(recipe, data, report, codecs, fits), None
        else:
            modalities, vocabulary = grown(taken, data, report, fits)
        make = partial(build_model, recipe, modalities, plugins, vocabulary)
        if apart:
            leave_codecs(run, modalities)
            model, _ = built(partial(make, start=False))
        else:
            model = make(start=taken is None)
        if taken is not None:
            (taken.places if apart else taken.fill)(model)
        spent = time.process_time() - began + sum(fit.before for fit in fits.values())
        inherited = None if taken is None else taken.inherited
        trainer = Trainer(recipe, model if apart else model.to(device), data, inherited)
        facts = {
            "data": data.identity(),
            "data_section": section,
            "plugins": plugins.versions,
            "codec_seconds": codec_seconds(codecs) if codecs else spent,
            "droppable": droppable_roles(data),
            MADE_BY: [made_by()],
        }
        if start is not None and inherited is not None:
            facts["from"] = f"{start}, step {RunFolder(start).checkpoint.state['step']}"
            facts["inherited"] = inherited.dump()
        trainer.check_mask()
        run.write_description(recipe, trainer.model, facts)
        run.metrics_file.unlink(missing_ok=True)
        if apart:
            return None
        trainer.save(run)
    return trainer


def droppable_roles(data: DataSet) -> list[str]:
    """The roles whose items guidance may leave out, as the first training documents mark them, sorted."""
    documents = (data.document("train", index) for index in range(min(LOOKED_AT, data.size("train"))))
    return sorted({item.modality for document in documents for item in document.items if item.droppable})


def _changed(run: RunFolder, before: Recipe, recipe: Recipe, data: DataSet) -> dict[str, list[Any]]:
    """What is set otherwise than so far: what it was, and what it is now.

    Raises TransfuseError where the folder holds another recipe's run, or one on other data.
    """
    there, here = before.dump(), recipe.dump()
    lawful = {**there, "eval": here["eval"], "attention": here["attention"]}
    lawful["train"] = there["train"] | {key: here["train"][key] for key in MAY_CHANGE}
    cure = "use another --out, or repeat the command that began it"
    if lawful != here:
        raise TransfuseError(
            f"{run.path} holds another run: {differing(lawful, here)}; {cure} (a run may go on under another "
            f"attention, {', '.join(f'train.{key}' for key in MAY_CHANGE)}; `--from {run.path}` begins "
            f"another from its weights)"
        )
    if run.description.get("data") != data.identity():
        unlike = differing(run.description.get("data"), data.identity())
        raise TransfuseError(f"{run.path} holds a run on other data: {unlike}; {cure}")
    pairs = {f"train.{key}": [there["train"][key], here["train"][key]] for key in MAY_CHANGE}
    pairs |= {key: [there[key], here[key]] for key in ("attention", "eval")}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def train(
    recipe: Recipe,
    data: DataSet,
    section: dict[str, Any],
    folder: Path,
    plugins: Plugins,
    *,
    report: Report = say,
    codecs: Path | None = None,
    start: Path | None = None,
    device: torch.device | str = "cpu",
    ready: Callable[[Surveyed], None] | None = None,
    surveyed: bool = False,
    until: float = 1.0,
    ranks: Ranks = ALONE,
    tracking: Tracking | None = None,
) -> Trainer:
    """Train until the recipe's budget is spent, or go on with what the folder holds.

    section: what opens the data set again (``{"name": "digits"}``). codecs: a folder of codecs fit before
    (`fit_codecs`). start: a run from whose codecs and weights this one begins. device: where the model is
    trained; a run may go on on another. ready: is called before anything costs, where a run begins. surveyed: the
    recipe was found to go with the data, as a comparison does for all of its runs. until: a share of the budget, to
    train no further. ranks: the processes that train it together; each calls this. tracking: is told of each step.

    Writes ``metrics.jsonl``, a line a step, and ``events.jsonl``, a line where something happened. Interrupted (Ctrl-C,
    SIGTERM, SIGHUP) on any rank, it finishes the step, saves and raises KeyboardInterrupt, which says so; the second
    time it raises at once. At SIGUSR1 it saves and goes on. Where too many steps in a row were not finite, or memory
    was short, it raises TransfuseError, what was done so far saved. One writer a folder: who calls it holds the
    folder's lock (`lock.locked`), of several ranks the first.
    """
    if ranks.first:
        make_folder(folder)
    run, data = RunFolder(folder), restrict(data, recipe.modalities)
    trainer = open_run(
        recipe, data, section, run, plugins, report, codecs, start, device, ready, surveyed, ranks
    )
    recipe, progress = trainer.recipe, trainer.progress
    if ranks.first:
        keep_until(run.metrics_file, progress.step, report)
    with (
        closing(Log(run.metrics_file) if ranks.first else NoLog()) as log,
        closing(Events(folder / EVENTS) if ranks.first else NoLog()) as events,
        bar(f"train {recipe.name}") if ranks.first else nullcontext(Unseen()) as shown,
        interrupts() as interrupted,
        tracking or Tracking(folder, ()) as tracked,
    ):
        if ranks.first:
            tracked.begin(trainer)

        def save(wait: bool) -> None:
            log.sync()  # a checkpoint never outlives the lines of its steps
            trainer.save(run, wait)

        saved, stop = time.monotonic(), False
        while progress.share(recipe) < until and not stop:
            try:
                measured = trainer.step()
            except Diverged:
                save(wait=True)
                raise
            finally:
                for event in trainer.events:
                    events.add(event)
            line = {
                "step": progress.step,
                "flops": progress.flops,
                "output_flops": progress.output_flops,
                "documents": progress.documents,
                "positions": progress.positions,
                **{name: value for name, value in measured.items() if math.isfinite(value)},
            }
            log.add(line)
            if ranks.first:
                tracked.step(trainer, {name: line[name] for name in measured if name in line})
            losses = "  ".join(f"{k[5:]} {v:.3f}" for k, v in measured.items() if k.startswith("loss_"))
            shown.update(min(1.0, progress.share(recipe)), f"step {progress.step}  {losses}")
            trainer.finish_saving()
            due = ranks.first and time.monotonic() - saved > recipe.train.save_every
            stop, asked, due = agreed(ranks, interrupted.heard, interrupted.asked, due)
            every = recipe.train.keep_every
            if asked or due or (every and progress.step % every == 0):
                interrupted.asked = False
                save(wait=asked)
                saved = time.monotonic()
        save(wait=True)
        if stop and progress.share(recipe) < until:
            raise KeyboardInterrupt(
                f"{folder}: saved after step {progress.step}. The same command goes on there."
            )
    return trainer
