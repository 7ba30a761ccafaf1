"""Codecs on disk, apart from any model: what modalities learnt from the data, and what they learnt it from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfuse.checkpoints.weights import Part, load_weights, save_tensors
from transfuse.config.merge import differing
from transfuse.config.recipe import Recipe
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.files import read_checked, write_checked, writing
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality

LISTING = "codecs.json"
CURE = "delete the folder, and fit its codecs again"


def provenance(recipe: Recipe, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe's codecs are fit from, as JSON: equal provenance, equal codecs.

    By role, the settings that their fit depends on (`Settings.fit_by`), the data set's identity, the seed.
    """
    learnt = {role: chosen.learnt() for role, chosen in recipe.modalities.items()}
    return {"modalities": learnt, "data": dict(identity), "codec_seed": recipe.train.codec_seed}


def check_provenance(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises TransfuseError naming what differs where a folder's codecs are not the recipe's.

    The folder may hold further roles.
    """
    roles = sorted(there["modalities"].keys() & here["modalities"].keys())
    before, now = ({role: side["modalities"][role] for role in roles} for side in (there, here))
    unlike = differing({**there, "modalities": before}, {**here, "modalities": now})
    if unlike:
        raise TransfuseError(
            f"{folder} holds codecs fit otherwise: {unlike}; fit these into another folder with "
            f"`transfuse train-codec`, or repeat the settings and data of those"
        )


def has_codecs(folder: Path) -> bool:
    """Whether a complete set of codecs lies in a folder."""
    return (folder / LISTING).is_file()


def save_codecs(
    folder: Path, modalities: Mapping[str, Modality], fit_from: Mapping[str, Any] | None = None
) -> None:
    """Facts and frozen weights of modalities that belong to no model yet. fit_from: their `provenance`."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files = {f"{name}.safetensors": modality.state_dict() for name, modality in modalities.items()}
    sums = {name: save_tensors(folder / name, tensors) for name, tensors in files.items()}
    # Written last: a folder without it is not complete.
    facts = {name: seam.facts(modality) for name, modality in modalities.items()}
    write_checked(folder / LISTING, {"modalities": facts, "provenance": fit_from, "files": sums})


def restore_codecs(
    folder: Path, modalities: Mapping[str, Modality], fit_from: Mapping[str, Any] | None = None
) -> None:
    """The inverse, into modalities built from the same settings and not yet connected.

    fit_from: the `provenance` that they must have; TransfuseError names what differs.
    """
    path = folder / LISTING
    saved = read_checked(path, "set of codecs", "modalities", "provenance", "files", cure=CURE)
    facts = saved["modalities"]
    if fit_from is not None and saved["provenance"] is not None:
        check_provenance(folder, saved["provenance"], fit_from)
    for name, modality in modalities.items():
        if name not in facts:
            raise TransfuseError(f"{folder} holds no codec of modality {name!r}; {did_you_mean(name, facts)}")
        with seam.at(path):
            seam.call(modality, "restore", facts[name])
        file = f"{name}.safetensors"
        load_weights(modality, Part({folder / file: saved["files"].get(file, "")}))
