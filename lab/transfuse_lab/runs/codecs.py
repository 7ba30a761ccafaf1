"""Codecs fit to a data set apart from any run, and kept in a folder that many runs can take them from."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transfuse.checkpoints import provenance, save_codecs
from transfuse.checkpoints.codecs import CURE, LISTING
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, restrict
from transfuse.files import read_checked, read_json, write_json
from transfuse.modalities.modality import Modality, Report
from transfuse.model.build import build_modalities, fit_modalities, report_left_out

from transfuse_lab.runs.kept_fits import kept_fits

SECONDS = "seconds.json"


def fit_codecs(
    recipe: Recipe, data: DataSet, folder: Path, report: Report, device: torch.device | str = "cpu"
) -> Mapping[str, Modality]:
    """A recipe's modalities fit to the data, and left in a folder that `training.train` takes as ``codecs``.

    Interrupted, it goes on there bit for bit.
    """
    began = time.process_time()
    data = restrict(data, recipe.modalities)
    report_left_out(data, recipe, report)
    with kept_fits(recipe, data, folder, report, device) as fits:
        modalities = fit_modalities(
            build_modalities(recipe), data, recipe.train.codec_seed, report, contexts=fits
        )
        write_json(folder / SECONDS, time.process_time() - began + sum(fit.before for fit in fits.values()))
        save_codecs(folder, modalities, provenance(recipe, data.identity()))
    return modalities


def fit_from(folder: Path) -> Mapping[str, Any]:
    """What the codecs in a folder were fit from: their `provenance`."""
    return read_checked(folder / LISTING, "set of codecs", "provenance", cure=CURE)["provenance"] or {
        "modalities": {}
    }


def codec_seconds(folder: Path) -> float:
    """Process CPU seconds that fitting a folder's codecs took."""
    return float(read_json(folder / SECONDS, "set of codecs"))
