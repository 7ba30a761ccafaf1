"""``transfuse train`` and ``transfuse train-codec``: a recipe, or its codecs alone, trained on a data set."""

import os
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transfuse.checkpoints import RunFolder, has_codecs, provenance, restore_codecs
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.registry.plugins import Plugins
from transfuse.training import Inherited, inherit
from transfuse.training.ranks import Ranks, ranks

from transfuse_lab.commands.account import report_account
from transfuse_lab.commands.arguments import RecipeOnData
from transfuse_lab.datasets import data_section, open_section
from transfuse_lab.device import AUTO, open_device
from transfuse_lab.drawing.sheet import Cell, save_sheet
from transfuse_lab.lock import locked
from transfuse_lab.memory import keep_freed_memory
from transfuse_lab.output_paths import check_folder, check_room
from transfuse_lab.progress import say
from transfuse_lab.raw_drawing import drawn
from transfuse_lab.runs.choices import as_before
from transfuse_lab.runs.codecs import fit_codecs, fit_from
from transfuse_lab.runs.dry_run import describe
from transfuse_lab.runs.forecast import ESTIMATE, Forecast, in_time, of_codecs, of_training
from transfuse_lab.runs.kept_fits import forget_fits
from transfuse_lab.runs.sampling import sample
from transfuse_lab.runs.stored import stored_codecs
from transfuse_lab.runs.survey import Surveyed, survey
from transfuse_lab.runs.tracking import Tracking, open_trackers
from transfuse_lab.runs.training import train

MEASURED = 256  # held-out arrays on which reconstruction is measured
SHOWN, ACROSS, PLOTS = 36, 12, 4  # of them on the sheet, and in a row of it: of pictures, and of plots


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
    recipe, data, section, plugins = _resolve(chosen)
    together.first_does(
        data.identity
    )  # reads all, so that a broken picture is told before anything is trained

    def ready(surveyed: Surveyed) -> None:
        known = codecs is not None or start is not None or surveyed.fitted
        fitted = Forecast() if known else of_codecs(surveyed, there)
        trained = of_training(surveyed, plugins, there, _inherited(start, surveyed.recipe, plugins))
        check_room("--out", out, fitted.size + trained.size)
        _say_time(fitted, trained, recipe.name)

    with locked(out) if together.first else nullcontext():
        if latest := RunFolder(out).latest:  # going on writes another like it
            check_room("--out", out, sum(file.stat().st_size for file in latest.glob("*")))
        shown = show_every and together.size == 1
        if show_every and not shown:
            say(
                "--show-every: samples are drawn where one process trains; `transfuse sample` draws from what is saved"
            )
        tracking = Tracking(
            out,
            open_trackers(track, out, plugins) if together.first else (),
            show_every if shown else 0,
            lambda trainer: sample(trainer, data),
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
            ready=ready,
            ranks=together,
            tracking=tracking,
        )
        progress = trainer.progress
    say(f"{out}: {progress.step} steps, {progress.positions:,} positions, {progress.flops:.3g} FLOPs")
    say(f"next: {'   or   '.join(_next(out, trainer.model, data))}")


@contextmanager
def quiet_but_first(together: Ranks) -> Iterator[None]:
    """Of the processes that train together the first alone says what all of them would say."""
    if together.first:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _inherited(start: Path | None, recipe: Recipe, plugins: Plugins) -> Inherited | None:
    """What the recipe's model has from the run that it begins from."""
    return None if start is None else inherit(RunFolder(start), RunFolder(start).recipe(plugins), recipe)


def _say_time(codecs: Forecast, training: Forecast, name: str) -> None:
    parts = f", of them the codecs {in_time(codecs.seconds)}" if codecs.seconds > 60 else ""
    say(f"{name}: {in_time(codecs.seconds + training.seconds)} on this machine{parts} ({ESTIMATE})")


def _next(out: Path, model: Model, data: DataSet) -> Iterator[str]:
    """What can be done with a run, as commands."""
    if data.size("heldout"):
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
    recipe, data, _, plugins = _resolve(chosen)
    codecs = stored_codecs(data)
    if start is not None:
        recipe = as_before(recipe, RunFolder(start).recipe(plugins).dump())
    elif codecs is not None:
        recipe = as_before(recipe, fit_from(codecs))
    inherited = _inherited(start, recipe, plugins)
    surveyed = survey(recipe, data, say, codecs)
    for line in describe(surveyed.recipe, data, plugins, there, inherited).split("\n"):
        say(line)
    fitted = Forecast() if start is not None or surveyed.fitted else of_codecs(surveyed, there)
    _say_time(fitted, of_training(surveyed, plugins, there, inherited), recipe.name)


def train_codec_command(chosen: RecipeOnData, out: Path, device: str = AUTO) -> None:
    """Trains, or goes on with what ``out`` holds. Raises TransfuseError where that is something else: codecs are
    not overwritten by others."""
    check_folder("--out", out)
    there = open_device(device)
    keep_freed_memory()
    recipe, data, _, _ = _resolve(chosen)
    data.identity()  # as in training
    with locked(out):
        _train_codec(recipe, data, out, there)
    say(f"next: {shlex.join(['transfuse', 'train', *chosen.words, '--codecs', str(out), '--out', 'RUN'])}")


def _train_codec(recipe: Recipe, data: DataSet, out: Path, device: torch.device) -> None:
    if RunFolder(out).recipe_file.is_file():
        raise TransfuseError(f"--out {out} holds a run; give the codecs a folder of their own")
    if has_codecs(out):
        recipe = as_before(recipe, fit_from(out))
        modalities = build_modalities(recipe)
        restore_codecs(out, modalities, provenance(recipe, data.identity()))
        forget_fits(out)
        say(f"{out} holds these codecs already; delete it to fit them again")
    else:
        surveyed = survey(recipe, data, say)
        fitted = of_codecs(surveyed, device)
        check_room("--out", out, fitted.size)
        say(f"codecs of {recipe.name}: {in_time(fitted.seconds)} on this machine ({ESTIMATE})")
        modalities = fit_codecs(surveyed.recipe, data, out, say, device)
    for role, modality in modalities.items():
        _judge(role, modality, data, out)


def _resolve(chosen: RecipeOnData) -> tuple[Recipe, DataSet, dict[str, Any], Plugins]:
    """The recipe, resolved for the data set; the data set, and the section that opens it again."""
    registry = Registry.open(chosen.registry)
    section = data_section(chosen.data, registry.plugins)
    data = open_section(section, registry.plugins)
    report_account(data)
    return registry.recipe(chosen.recipe, chosen.overrides, data.name), data, section, registry.plugins


def _judge(role: str, modality: Modality, data: DataSet, out: Path) -> None:
    """The reconstruction error on held-out arrays, and a sheet: originals over what comes back of them."""
    originals = list(islice(_arrays(data, role), MEASURED))
    payloads = [seam.payload(modality, "encode", raw) for raw in originals]
    back = [seam.call(modality, "decode", payload) for payload in payloads]
    if not originals or any(np.shape(b) != a.shape for a, b in zip(originals, back, strict=True)):
        return
    error = np.mean([_squared(a, b).mean() for a, b in zip(originals, back, strict=True)])
    facts = modality.facts().get("codec", {})
    rest = "".join(f", {key} {facts[key]:.3g}" for key in ("usage", "perplexity") if key in facts)
    shown = [[Cell(drawn(modality, raw)) for raw in some[:SHOWN]] for some in (originals, back)]
    pictures = all(isinstance(cell.drawing, bytes) for cells in shown for cell in cells)
    path = out / f"{role}{'.png' if pictures else '.svg'}"
    across = ACROSS if pictures else PLOTS
    rows = [cells[i : i + across] for i in range(0, len(shown[0]), across) for cells in shown]
    save_sheet(rows, path, "--out")
    say(f"{role}: mean squared error {error:.5f} of {len(originals)} held-out items{rest}; shown in {path}")


def _arrays(data: DataSet, role: str) -> Iterator[np.ndarray]:
    """Held-out raw data that a difference can be taken of; a row of ids is none."""
    for raw in data.raw("heldout", role):
        if isinstance(raw, np.ndarray) and raw.dtype.kind in "biuf" and raw.size:
            yield raw


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.square(np.subtract(b, a, dtype=np.result_type(a, b, np.float32)))
