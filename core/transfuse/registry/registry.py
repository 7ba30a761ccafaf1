"""The registry: named modalities, masks and recipes, from plugins and from files laid over each other."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transfuse.config.located import Written
from transfuse.config.parts import Chosen, choose
from transfuse.config.recipe import ModelSettings as ModelSettings
from transfuse.config.recipe import Recipe as Recipe
from transfuse.config.recipe import TrainSettings as TrainSettings
from transfuse.config.recipe import mask_text
from transfuse.config.validation import Misfit, fit
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.registry.files import CONSTANTS, NAME, RegistryFile, checked, packaged_file, read_registry
from transfuse.registry.files import standard_files as standard_files
from transfuse.registry.overrides import read_overrides
from transfuse.registry.plugin_contents import ENTRIES, Offer, PluginError
from transfuse.registry.plugins import Plugins, PluginWarning

EMPTY = Written.by("", {})


@dataclass(frozen=True)
class Registry:
    """Named modalities, masks and recipes. files: what was read, lowest first."""

    plugins: Plugins
    files: tuple[Path, ...]
    written: Written

    @classmethod
    def open(cls, extra: Path | str | None = None) -> "Registry":
        """The registry of the standard files, with the plugins that they do not disable."""
        return cls.load(None, standard_files(extra))

    @classmethod
    def load(cls, plugins: Plugins | None, paths: Sequence[Path]) -> "Registry":
        """The files laid over each other, above what the plugins bring.

        plugins: None loads the installed ones, without those that the files disable. Raises
        `TransfuseError` naming file, line and place of what is no registry. A plugin whose entries are
        wrong, or named as others are, is warned about and brings none.
        """
        files, packaged = EMPTY, EMPTY
        for path in paths:
            file = read_registry(path)
            packaged = file if path.resolve() == packaged_file() else packaged
            files = files.lay(file)
        if plugins is None:
            plugins = Plugins.load(disabled=fit(RegistryFile, files.value).plugins.disabled)
        return cls(plugins, tuple(paths), _brought(plugins, packaged).lay(files))

    def names(self, what: str) -> list[str]:
        """The names under ``modalities``, ``masks`` or ``recipes``, sorted."""
        return sorted(self._named(what))

    def recipes(self) -> list[str]:
        """The recipes' names, each behind the one it extends."""
        return sorted(self._named("recipes"), key=lambda name: (len(self._chain(name)), name))

    def summary(self, recipe: str) -> str:
        """A recipe's line for lists."""
        return self._named("recipes")[recipe].get("summary", "")

    def mask(self, text: str) -> str:
        """The text form of a named mask, or of an expression."""
        return self._mask(Written.by("", text)).value

    def modality(self, name: str) -> Chosen:
        """A named modality with its settings."""
        written = self._modality(Written.by("", name))
        try:
            return choose(self.plugins, "modality", written.value)
        except Misfit as misfit:
            raise written.error(misfit) from misfit

    def recipe(self, name: str, overrides: Sequence[str] = (), data: str | None = None) -> Recipe:
        """A recipe with everything it extends and names, under ``--set``'s overrides ``a.b=c``.

        data: the name of the data set it is for; each recipe of the chain may change something there.
        Overrides: ``model.…``, ``train.…``, ``loss.ROLE``, ``mask``, ``attention``, and ``ROLE.…`` for
        that role's modality. Raises `TransfuseError` with source, line and place.
        """
        chain = self._chain(name)
        start = {"name": name, "modalities": {}, "loss": {}, "model": {}, "train": {}}
        written = Written(start, {(): chain[-1].spot(())})
        for link in chain:
            written = self._extend(written, link)
            if data is not None and data in link.value.get("data", {}):
                written = self._extend(written, link.at("data", data))
        for link in read_overrides(overrides, written.value["modalities"]):
            written = self._extend(written, link)
        if "mask" in written.value:
            written = written.put("mask", self._mask(written.at("mask")))
        try:
            return fit(Recipe, written.value, self.plugins)
        except Misfit as misfit:
            raise written.error(misfit) from misfit

    def faults(self) -> list[TransfuseError]:
        """What is wrong with modalities and recipes, used or not, on whatever data."""
        tries = [partial(self.modality, name) for name in self.names("modalities")]
        for name in self.names("recipes"):
            tries += [partial(self.recipe, name, (), data) for data in (None, *self.data(name))]
        faults: list[TransfuseError] = []
        for resolve in tries:
            try:
                resolve()
            except TransfuseError as error:
                if str(error) not in map(str, faults):
                    faults.append(error)
        return faults

    def data(self, recipe: str) -> list[str]:
        """The data sets on which a recipe, or one it extends, changes something."""
        try:
            return sorted({name for link in self._chain(recipe) for name in link.value.get("data", {})})
        except TransfuseError:
            return []  # what it extends is not there: a fault of the recipe itself

    def _named(self, what: str) -> Mapping[str, Any]:
        return self.written.value.get(what, {})

    def _chain(self, name: str) -> list[Written]:
        """A recipe and all it extends, lowest first."""
        recipes = self._named("recipes")
        chain: list[Written] = []
        seen: list[str] = []
        asked = Written.by("", name)
        while True:
            name = asked.value
            if name not in recipes:
                raise asked.error(Misfit([((), f"unknown recipe {name!r}, {did_you_mean(name, recipes)}")]))
            if name in seen:
                circle = " → ".join([*seen, name])
                raise asked.error(Misfit([((), f"recipes extend each other in a circle: {circle}")]))
            seen.append(name)
            chain.append(self.written.at("recipes", name))
            if chain[-1].value.get("extends") is None:
                return chain[::-1]
            asked = chain[-1].at("extends")

    def _extend(self, base: Written, link: Written) -> Written:
        """A recipe so far, with the next entry on top: roles resolved, the rest laid."""
        roles, loss = base.at("modalities"), base.at("loss")
        for role, section in link.value.get("modalities", {}).items():
            over = link.at("modalities", role)
            if section is None:
                roles, loss = roles.without(role), loss.without(role)
            elif isinstance(section, str):
                roles = roles.put(role, self._modality(over))
            else:
                roles = roles.put(role, roles.at(role).lay(over) if role in roles.value else over)
        rest = link
        for key in ("modalities", "extends", "summary", "data"):
            rest = rest.without(key)
        return base.put("loss", loss).lay(rest).put("modalities", roles)

    def _modality(self, name: Written) -> Written:
        named = self._named("modalities")
        if name.value not in named:
            hint = did_you_mean(name.value, named)
            raise name.error(Misfit([((), f"unknown modality {name.value!r}, {hint}")]))
        return self.written.at("modalities", name.value)

    def _mask(self, written: Written) -> Written:
        """The text form of what is a mask's name or an expression."""
        masks, text = self._named("masks"), written.value
        try:
            if not isinstance(text, str):
                raise Misfit([((), "should be a mask's name or an expression")])
            if text not in masks and text not in CONSTANTS and NAME.fullmatch(text):
                raise Misfit([((), f"unknown mask {text!r}, {did_you_mean(text, [*masks, *CONSTANTS])}")])
            return Written(mask_text(masks.get(text, text)), written.spots)
        except Misfit as misfit:
            raise written.error(misfit) from misfit


def _brought(plugins: Plugins, packaged: Written) -> Written:
    """What the plugins bring; entries with faults, or with a name that is taken, are left out."""
    brought = EMPTY
    owners = {(what, name): "transfuse" for what in ENTRIES for name in packaged.value.get(what, {})}
    for offer in plugins.offers:
        try:
            entries = _entries(offer, owners)
        except TransfuseError as error:
            warnings.warn(str(error), PluginWarning, stacklevel=3)
            continue
        brought = brought.lay(entries)
    return brought


def _entries(offer: Offer, owners: dict[tuple[str, str], str]) -> Written:
    """One plugin's entries, whose names are entered among ``owners``."""
    entries = checked(
        Written.by(f"{offer.origin}:", {what: dict(named) for what, named in offer.entries.items()})
    )
    names = [(what, name) for what, named in entries.value.items() for name in named]
    for what, name in names:
        if (what, name) in owners:
            raise PluginError(offer.origin, f"brings {what}.{name}, which {owners[what, name]} has already")
    owners.update(dict.fromkeys(names, str(offer.origin)))
    return Written(entries.value, {**entries.spots, **{loc: entries.spot(loc) for loc in names}})
