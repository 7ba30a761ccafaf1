"""``transfuse train-codec``: a recipe's codecs fit to a data set, kept in a folder, with a picture to judge by."""

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transfuse import checkpoints
from transfuse.checkpoints.provenance import origin
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet
from transfuse.errors import TransfuseError
from transfuse.files import write_json
from transfuse.modalities.modality import Modality, Report
from transfuse.model.build import build_modalities, fit_modalities
from transfuse.registry import Registry

from transfuse_lab.progress import say

MEASURED = 256  # held-out images on which reconstruction is measured
SHOWN = 36  # of them in the picture, 12 in a row


def fit_codecs(recipe: Recipe, data: DataSet, folder: Path, report: Report) -> Mapping[str, Modality]:
    """A recipe's modalities fit to the data, and left in a folder that `training.train` takes as ``codecs``."""
    began = time.process_time()
    modalities = fit_modalities(build_modalities(recipe), data, 0, report)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "seconds.json", time.process_time() - began)
    checkpoints.save_codecs(folder, modalities, origin(recipe, data.identity()))
    return modalities


def train_codec_command(
    recipe: str, data: str, out: Path, overrides: tuple[str, ...], registry: Path | None
) -> None:
    """Raises TransfuseError where ``out`` holds something else: codecs are not overwritten by others."""
    from transfuse_lab.datasets import data_section
    from transfuse_lab.runs.training import make_folder

    opened = Registry.open(registry)
    section = data_section(data, opened.plugins)
    documents = opened.plugins.choose("dataset", section, "data").build()
    resolved = opened.recipe(recipe, overrides, documents.name)
    make_folder(out)
    if (out / "recipe.json").is_file():
        raise TransfuseError(f"--out {out} holds a run; give the codecs a folder of their own")
    if (out / "codecs.json").is_file():
        modalities = build_modalities(resolved)
        checkpoints.restore_codecs(out, modalities, origin(resolved, documents.identity()))
        say(f"{out} holds these codecs already; delete it to fit them again")
    else:
        modalities = fit_codecs(resolved, documents, out, say)
    for role, modality in modalities.items():
        judge(role, modality, documents, out)
    say(f"next: transfuse train {recipe} --data {data} --codecs {out} --out RUN")


def judge(role: str, modality: Modality, data: DataSet, out: Path) -> None:
    """The reconstruction error on held-out images, and ``ROLE.png``: originals over what codes give back."""
    from transfuse_lab.commands.sample import grid, save_image

    originals = list(islice(_images(data, role), MEASURED))
    if not originals:
        return
    back = [modality.decode(modality.encode(image)) for image in originals]
    error = np.mean([np.square(b - a).mean() for a, b in zip(originals, back, strict=True)])
    facts = modality.facts().get("codec", {})
    rest = "".join(f", {key} {facts[key]:.3g}" for key in ("usage", "perplexity") if key in facts)
    path = out / f"{role}.png"
    save_image(grid(list(_pairs(originals[:SHOWN], back[:SHOWN])), across=12), path)
    say(f"{role}: mean squared error {error:.5f} of {len(originals)} held-out images{rest}; shown in {path}")


def _images(data: DataSet, role: str) -> Iterator[Any]:
    for raw in data.raw("heldout", role):
        if isinstance(raw, np.ndarray) and raw.ndim == 3:
            yield raw


def _pairs(originals: list[np.ndarray], back: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Rows of originals, each over the row of its reconstructions, whole rows but for the last."""
    for start in range(0, len(originals), 12):
        row = originals[start : start + 12]
        yield from row
        yield from [np.ones_like(row[0])] * (12 - len(row))
        yield from back[start : start + 12]
