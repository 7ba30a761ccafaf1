"""``transfuse train-codec``: a recipe's codecs trained apart, and whether they are good enough to compare anything."""

import shlex
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transfuse.checkpoints import RunFolder, has_codecs, provenance, restore_codecs
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, restrict
from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.codec import GridModality
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities
from transfuse.registry import Registry

from transfuse_lab.commands.arguments import RecipeOnData
from transfuse_lab.commands.train import resolve
from transfuse_lab.device import AUTO, open_device
from transfuse_lab.drawing.sheet import Cell, save_sheet
from transfuse_lab.evaluation.ceilings import ENOUGH, Ceiling, ceilings
from transfuse_lab.lock import locked
from transfuse_lab.memory import keep_freed_memory
from transfuse_lab.output_paths import check_folder, check_room
from transfuse_lab.progress import say
from transfuse_lab.raw_drawing import drawn
from transfuse_lab.report.figures import show
from transfuse_lab.runs.choices import as_before
from transfuse_lab.runs.codecs import fit_codecs, fit_from
from transfuse_lab.runs.forecast import ESTIMATE, in_time, of_codecs
from transfuse_lab.runs.kept_fits import forget_fits
from transfuse_lab.runs.survey import survey

MEASURED = 256  # held-out arrays on which reconstruction is measured
SHOWN, ACROSS, PLOTS = 36, 12, 4  # of them on the sheet, and in a row of it: of pictures, and of plots


def train_codec_command(chosen: RecipeOnData, out: Path, device: str = AUTO) -> None:
    """Trains, or goes on with what ``out`` holds. Raises TransfuseError where that is something else: codecs are
    not overwritten by others."""
    check_folder("--out", out)
    there = open_device(device)
    keep_freed_memory()
    recipe, data, _, registry = resolve(chosen)
    data.identity()  # as in training
    with locked(out):
        _train_codec(recipe, data, out, there, registry)
    say(f"next: {shlex.join(['transfuse', 'train', *chosen.words, '--codecs', str(out), '--out', 'RUN'])}")


def _train_codec(recipe: Recipe, data: DataSet, out: Path, device: torch.device, registry: Registry) -> None:
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
    data = restrict(data, modalities)
    for role, modality in modalities.items():
        _judge(role, modality, data, recipe.eval.split, out)
    if grids := {role for role, modality in modalities.items() if isinstance(modality, GridModality)}:
        _say_ceilings(grids, ceilings(modalities, data, registry.metrics(), recipe.eval))


def _say_ceilings(roles: Collection[str], found: Sequence[Ceiling]) -> None:
    """What can be reached with these codecs, a line a figure, and whether that is enough to compare anything."""
    for one in found:
        reached, untouched = (show(one.figure, value) for value in (one.reached, one.untouched))
        say(f"{one.role}: {one.figure.name} of real items {reached} through the codec, {untouched} untouched")
    for role in sorted(roles):
        own = [one for one in found if one.role == role]
        if not own:
            say(
                f"{role}: no metric reads what is drawn of these data, so nobody can say what its codec loses"
            )
        elif low := [one.figure.name for one in own if one.too_low]:
            say(
                f"{role}: too much is lost to compare anything by {', '.join(low)}: a ceiling is at least {ENOUGH:.0%} "
                f"of what untouched items reach; train the codec longer ({role}.codec.steps), or choose another"
            )
        else:
            say(
                f"{role}: enough is kept to compare models: no ceiling is under {ENOUGH:.0%} of untouched items'"
            )


def _judge(role: str, modality: Modality, data: DataSet, split: str, out: Path) -> None:
    """The reconstruction error on held-out arrays, and a sheet: originals over what comes back of them."""
    originals = list(islice(_arrays(data, role, split), MEASURED))
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


def _arrays(data: DataSet, role: str, split: str) -> Iterator[np.ndarray]:
    """Held-out raw data that a difference can be taken of; a row of ids is none."""
    for raw in data.raw(split, role):
        if isinstance(raw, np.ndarray) and raw.dtype.kind in "biuf" and raw.size:
            yield raw


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.square(np.subtract(b, a, dtype=np.result_type(a, b, np.float32)))
