"""Packed stores whose training documents are encoded: whose codecs those are, and their items as raw data again."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from transfuse.checkpoints import RunFolder, has_codecs, provenance, restore_codecs
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, Restriction
from transfuse.documents import Document, Encoded, Item
from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality
from transfuse.model.build import build_modalities
from transfuse.registry.plugins import Plugins

from transfuse_lab.runs.choices import as_before
from transfuse_lab.runs.codecs import fit_from


@runtime_checkable
class HasCodecs(Protocol):
    """A data set that may hold encoded documents."""

    def codec_folder(self) -> Path | None:
        """The codecs that encoded them, as `transfuse.checkpoints.save_codecs` leaves them; None: all are raw."""
        ...


def stored_codecs(data: DataSet) -> Path | None:
    """The codecs that encoded a data set's documents; None where they are raw."""
    whole = data.data if isinstance(data, Restriction) else data
    return whole.codec_folder() if isinstance(whole, HasCodecs) else None


def restored(recipe: Recipe, codecs: Path) -> Mapping[str, Modality]:
    """The recipe's modalities with the codecs in a folder, whatever data those were fit to. Raises TransfuseError
    where they are of other settings."""
    modalities = build_modalities(recipe)
    restore_codecs(codecs, modalities, provenance(recipe, fit_from(codecs).get("data", {})))
    return modalities


def of_folder(recipe: Recipe, folder: Path, plugins: Plugins) -> tuple[Recipe, Mapping[str, Modality]]:
    """The recipe as the codecs of a folder have it, and its modalities with them, not connected to a model.

    folder: what `train-codec` left, or a run. Raises TransfuseError where it is neither, or of other settings.
    """
    if has_codecs(folder):
        recipe = as_before(recipe, fit_from(folder))
        return recipe, restored(recipe, folder)
    run = RunFolder(folder)
    if not run.recipe_file.is_file():
        raise TransfuseError(
            f"--codecs {folder} holds neither codecs nor a run: name what `transfuse train-codec` left"
        )
    there, model = run.load(plugins)
    recipe = as_before(recipe, there.dump())
    modalities = build_modalities(recipe)
    for role, modality in modalities.items():
        before = there.modalities.get(role)
        if before is None or before.learnt() != recipe.modalities[role].learnt():
            raise TransfuseError(
                f"--codecs {folder}: role {role!r} has no codec of these settings there: repeat that run's settings"
            )
        seam.call(modality, "restore", seam.facts(model.modalities[role]))
        trained = model.modalities[role].state_dict()
        modality.load_state_dict({name: trained[name] for name in modality.state_dict()})
    return recipe, modalities


def decoded(data: DataSet, modalities: Mapping[str, Modality]) -> DataSet:
    """The data set with raw data alone: what is encoded comes back from its codec."""
    return data if stored_codecs(data) is None else Decoded(data, modalities)


class Decoded(DataSet):
    """Encoded items as their modalities decode them, for what needs raw data of training documents."""

    def __init__(self, data: DataSet, modalities: Mapping[str, Modality]) -> None:
        self.data, self.modalities = data, modalities
        self.name, self.reversed_share, self.tasks = data.name, data.reversed_share, data.tasks
        self.splits = data.splits

    def tasks_in(self, split: str) -> tuple[str, ...]:
        return self.data.tasks_in(split)

    def size(self, split: str) -> int:
        return self.data.size(split)

    def excerpt(self, split: str) -> int:
        return self.data.excerpt(split)

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        return self._raw(self.data.document(split, index, rng))

    def document_roles(self, split: str, index: int) -> list[str]:
        return self.data.document_roles(split, index)

    def outline(self, split: str, index: int, roles: Collection[str]) -> Document:
        return self._raw(self.data.outline(split, index, roles))

    def identity(self) -> dict[str, Any]:
        return self.data.identity()

    def account(self) -> str:
        return self.data.account()

    def _raw(self, document: Document) -> Document:
        return replace(document, items=tuple(map(self._item, document.items)))

    def _item(self, item: Item) -> Item:
        if not isinstance(item.data, Encoded) or (modality := self.modalities.get(item.modality)) is None:
            return item
        return replace(item, data=seam.call(modality, "decode", item.data.payload(modality)))
