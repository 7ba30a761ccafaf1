"""``transfuse train``: a recipe trained on a data set."""

import os
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from transfuse.checkpoints import RunFolder
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.registry.plugins import Plugins
from transfuse.training import Inherited, inherit
from transfuse.training.ranks import Ranks, ranks

from transfuse_lab.commands.account import report_account
from transfuse_lab.commands.arguments import RecipeOnData
from transfuse_lab.datasets import data_section, open_section
from transfuse_lab.device import AUTO, open_device
from transfuse_lab.lock import locked
from transfuse_lab.memory import keep_freed_memory
from transfuse_lab.output_paths import check_folder, check_room
from transfuse_lab.progress import say
from transfuse_lab.runs.choices import as_before
from transfuse_lab.runs.codecs import fit_from
from transfuse_lab.runs.dry_run import describe
from transfuse_lab.runs.forecast import ESTIMATE, Forecast, in_time, of_codecs, of_training
from transfuse_lab.runs.grown import inherited_facts
from transfuse_lab.runs.sampling import sample
from transfuse_lab.runs.stored import stored_codecs
from transfuse_lab.runs.survey import Surveyed, survey
from transfuse_lab.runs.tracking import Tracking, open_trackers
from transfuse_lab.runs.training import train


def train_command(
    chosen: RecipeOnData,
    out: Path,
    codecs: Path | None = None,
    start: Path | None = None,
    device: str = AUTO,
    track: tuple[str, ...] = (),
    show_every: int = 0,
) -> None:
    """Trains, or goes on with what ``out`` holds. codecs: a folder that `train_codec_command` left. start: a run
    whose weights and codecs it begins from. track: trackers, and of samples each ``show_every`` steps. Started by
    torchrun, all of its processes train together."""
    with ranks(open_device(device)) as together, quiet_but_first(together):
        _train(chosen, out, codecs, start, together, track, show_every)


def _train(
    chosen: RecipeOnData,
    out: Path,
    codecs: Path | None,
    start: Path | None,
    together: Ranks,
    track: tuple[str, ...],
    show_every: int,
) -> None:
    there = together.device
    check_folder("--out", out)
    keep_freed_memory()
    recipe, data, section, registry = resolve(chosen)
    plugins = registry.plugins
    together.first_does(data.identity)  # reads all: a broken picture is told before anything is trained

    def ready(surveyed: Surveyed) -> None:
        known = codecs is not None or start is not None or surveyed.fitted
        fitted = Forecast() if known else of_codecs(surveyed, there)
        trained = of_training(surveyed, plugins, there, _inherited(start, surveyed.recipe, plugins))
        check_room("--out", out, fitted.size + trained.size)
        _say_time(fitted, trained, recipe.name)

    with locked(out) if together.first else nullcontext():
        saved = [
            sum(file.stat().st_size for file in folder.glob("*"))
            for folder in (out / "checkpoints").glob("[0-9]*")
        ]
        check_room("--out", out, max(saved, default=0))  # going on writes another like them
        shown = show_every and together.size == 1
        if show_every and not shown:
            say(
                "--show-every: samples are drawn where one process trains; `transfuse sample` draws from what is saved"
            )
        tracking = Tracking(
            out,
            open_trackers(track, out, plugins) if together.first else (),
            show_every if shown else 0,
            lambda trainer: sample(trainer, trainer.data),
        )
        trainer = train(
            recipe,
            data,
            section,
            out,
            plugins,
            codecs=codecs,
            start=start,
            device=there,
            ready=ready if together.size == 1 else None,  # whose trial is of the whole model
            ranks=together,
            tracking=tracking,
        )
        progress = trainer.progress
    say(f"{out}: {progress.step} steps, {progress.positions:,} positions, {progress.flops:.3g} FLOPs")
    say(f"next: {'   or   '.join(_next(out, trainer.model, trainer.data, recipe.eval.split))}")


@contextmanager
def quiet_but_first(together: Ranks) -> Iterator[None]:
    """Of the processes that train together the first alone says what all of them would say."""
    if together.first:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def _inherited(start: Path | None, recipe: Recipe, plugins: Plugins) -> Inherited | None:
    """What the recipe's model has from the run that it begins from."""
    return None if start is None else inherit(RunFolder(start), RunFolder(start).recipe(plugins), recipe)


def _say_time(codecs: Forecast, training: Forecast, name: str) -> None:
    parts = f", of them the codecs {in_time(codecs.seconds)}" if codecs.seconds > 60 else ""
    say(f"{name}: {in_time(codecs.seconds + training.seconds)} on this machine{parts} ({ESTIMATE})")


def _next(out: Path, model: Model, data: DataSet, split: str) -> Iterator[str]:
    """What can be done with a run, as commands."""
    if data.size(split):
        yield shlex.join(["transfuse", "eval", str(out)])
    want = (
        []
        if model.layout.marker_modality or len(model.modalities) == 1
        else ["--want", next(iter(model.modalities))]
    )
    yield shlex.join(["transfuse", "sample", str(out), *want, "--n", "16", "--out", "samples"])


def dry_run_command(chosen: RecipeOnData, start: Path | None = None, device: str = AUTO) -> None:
    """Shows shapes, parameters, memory and one batch; nothing is trained or kept. start: as in `train_command`."""
    there = open_device(device)
    recipe, data, _, registry = resolve(chosen)
    plugins = registry.plugins
    codecs = stored_codecs(data)
    run = None if start is None else RunFolder(start)
    facts: dict[str, Any] = {}
    if run is not None:
        before = run.recipe(plugins)
        recipe = as_before(recipe, before.dump())
        facts = inherited_facts(run, before, recipe)
    elif codecs is not None:
        recipe = as_before(recipe, fit_from(codecs))
    surveyed = survey(recipe, data, say, codecs, facts)
    for line in describe(surveyed.recipe, data, plugins, there, run).split("\n"):
        say(line)
    fitted = Forecast() if start is not None or surveyed.fitted else of_codecs(surveyed, there)
    trained = of_training(surveyed, plugins, there, _inherited(start, surveyed.recipe, plugins))
    _say_time(fitted, trained, recipe.name)


def resolve(chosen: RecipeOnData) -> tuple[Recipe, DataSet, dict[str, Any], Registry]:
    """The recipe, resolved for the data set; the data set, and the section that opens it again."""
    registry = Registry.open(chosen.registry)
    section = data_section(chosen.data, registry.plugins)
    data = open_section(section, registry.plugins)
    report_account(data)
    return registry.recipe(chosen.recipe, chosen.overrides, data.name), data, section, registry
