"""The registry: named modalities, masks and recipes, from plugins and from files, merged."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transfuse.config.located import Located
from transfuse.config.parts import Chosen, choose
from transfuse.config.recipe import Recipe, as_mask
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.masks import Mask
from transfuse.metrics import Metric
from transfuse.registry.files import CONSTANTS, NAME, checked, packaged_file, read_registry, standard_files
from transfuse.registry.overrides import read_overrides
from transfuse.registry.plugin_contents import ENTRIES, PluginContents, PluginError
from transfuse.registry.plugins import Plugins, PluginWarning

EMPTY = Located.from_source("", {})


@dataclass(frozen=True)
class Registry:
    """Named modalities, masks and recipes. files: what was read, lowest first."""

    plugins: Plugins
    files: tuple[Path, ...]
    entries: Located

    @classmethod
    def open(cls, extra: Path | str | None = None) -> "Registry":
        """The registry of the standard files, with the plugins that they do not disable."""
        return cls.load(None, standard_files(extra))

    @classmethod
    def load(cls, plugins: Plugins | None, paths: Sequence[Path]) -> "Registry":
        """The files merged, above what the plugins bring.

        plugins: None loads the installed ones, without those that the files disable. Raises
        `TransfuseError` naming file, line and place of what is no registry. A plugin whose entries are
        wrong, or named as others are, is warned about and brings none.
        """
        files, packaged = EMPTY, EMPTY
        for path in paths:
            file = read_registry(path)
            packaged = file if path.resolve() == packaged_file() else packaged
            files = files.merge(file)
        if plugins is None:
            plugins = Plugins.load(disabled=files.value.get("plugins", {}).get("disabled", ()))
        return cls(plugins, tuple(paths), _brought(plugins, packaged).merge(files))

    def names(self, what: str) -> list[str]:
        """The names under ``modalities``, ``masks`` or ``recipes``, sorted."""
        return sorted(self._named(what))

    def compared(self) -> tuple[str, ...]:
        """The recipes that are compared where none are named, in their order. Raises TransfuseError with the place of
        one that there is not, or that stands twice."""
        names = self.entries.value.get("compare", ())
        for i, name in enumerate(names):
            asked = self.entries.at("compare", i)
            if name not in self._named("recipes"):
                raise _unknown(asked, "recipe", self._named("recipes"))
            if name in names[:i]:
                raise TransfuseError(asked.sentence((), f"recipe {name!r} stands twice"))
        return tuple(names)

    def summary(self, recipe: str) -> str:
        """A recipe's line for lists."""
        return self._named("recipes")[recipe].get("summary", "")

    def mask(self, text: str) -> Mask:
        """A named mask, or that of an expression."""
        return self._mask(Located.from_source("", text)).value

    def modality(self, name: str) -> Chosen:
        """A named modality with its settings."""
        section = self._modality(Located.from_source("", name))
        with section.errors():
            return choose(self.plugins, "modality", section.value)

    def recipe(self, name: str, overrides: Sequence[str] = (), data: str | None = None) -> Recipe:
        """A recipe with everything it extends and names, under ``--set``'s overrides ``a.b=c``.

        data: the name of the data set it is for; each recipe of the chain may change something there.
        Overrides: ``model.…``, ``train.…``, ``loss.ROLE``, ``mask``, ``attention``, and ``ROLE.…`` for
        that role's modality. Raises `TransfuseError` with source, line and place.
        """
        chain = self._chain(name)
        start = {"name": name, "modalities": {}, "loss": {}, "model": {}, "train": {}}
        recipe = Located(start, {(): chain[-1].location(())})
        for link in chain:
            recipe = self._extend(recipe, link)
            if data is not None and data in link.value.get("data", {}):
                recipe = self._extend(recipe, link.at("data", data))
        for link in read_overrides(overrides, recipe.value["modalities"]):
            recipe = self._extend(recipe, link)
        if "mask" in recipe.value:
            recipe = recipe.put("mask", self._mask(recipe.at("mask")))
        return recipe.validate(Recipe, self.plugins)

    def metrics(self) -> dict[str, Chosen[Metric]]:
        """The metrics on offer with their settings, by name; without those that are turned off, and those that
        need a setting which nobody gives. Raises TransfuseError with the place of a wrong one."""
        given, offered = self._named("metrics"), self.plugins.parts("metric")
        for name in given.keys() - offered.keys():
            raise _unknown(Located(name, self.entries.at("metrics", name).locations), "metric", offered)
        chosen: dict[str, Chosen[Metric]] = {}
        for name, part in offered.items():
            needs = any(field.is_required() for field in part.settings.model_fields.values())
            if given.get(name, None if needs else {}) is None:
                continue
            section = self.entries.at("metrics", name) if name in given else EMPTY
            with section.errors():
                chosen[name] = choose(self.plugins, "metric", {**section.value, "name": name}, Metric)
        return chosen

    def faults(self) -> list[TransfuseError]:
        """What is wrong with modalities and recipes, used or not, on whatever data."""
        tries: list[Callable[[], object]] = [self.compared]
        tries += [partial(self.modality, name) for name in self.names("modalities")]
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
        return self.entries.value.get(what, {})

    def _chain(self, name: str) -> list[Located]:
        """A recipe and all it extends, lowest first."""
        recipes = self._named("recipes")
        chain: list[Located] = []
        seen: list[str] = []
        asked = Located.from_source("", name)
        while True:
            name = asked.value
            if name not in recipes:
                raise _unknown(asked, "recipe", recipes)
            if name in seen:
                circle = " → ".join([*seen, name])
                raise TransfuseError(asked.sentence((), f"recipes extend each other in a circle: {circle}"))
            seen.append(name)
            chain.append(self.entries.at("recipes", name))
            if chain[-1].value.get("extends") is None:
                return chain[::-1]
            asked = chain[-1].at("extends")

    def _extend(self, base: Located, link: Located) -> Located:
        """A recipe so far, with the next entry on top: roles resolved, the rest merged."""
        roles, loss = base.at("modalities"), base.at("loss")
        for role, section in link.value.get("modalities", {}).items():
            over = link.at("modalities", role)
            if section is None and role not in roles.value:
                raise _unknown(Located(role, over.locations), "role", roles.value)
            if section is None:
                roles, loss = roles.without(role), loss.without(role)
            elif isinstance(section, str):
                roles = roles.put(role, self._modality(over))
            else:
                roles = roles.put(role, roles.at(role).merge(over) if role in roles.value else over)
        rest = link
        for key in ("modalities", "extends", "summary", "data"):
            rest = rest.without(key)
        return base.put("loss", loss).merge(rest).put("modalities", roles)

    def _modality(self, name: Located) -> Located:
        named = self._named("modalities")
        if name.value not in named:
            raise _unknown(name, "modality", named)
        return self.entries.at("modalities", name.value)

    def _mask(self, text: Located) -> Located:
        """The mask that has this name, else that of the expression."""
        named = self._named("masks")
        if text.value in named:
            return Located(named[text.value], text.locations)
        if isinstance(text.value, str) and text.value not in CONSTANTS and NAME.fullmatch(text.value):
            raise _unknown(text, "mask", [*named, *CONSTANTS])
        with text.errors():
            return Located(as_mask(text.value), text.locations)


def _unknown(name: Located, what: str, known: Iterable[str]) -> TransfuseError:
    return TransfuseError(
        name.sentence((), f"unknown {what} {name.value!r:.80}, {did_you_mean(name.value, known)}")
    )


def _brought(plugins: Plugins, packaged: Located) -> Located:
    """What the plugins bring; entries with faults, or with a name that is taken, are left out."""
    brought = EMPTY
    owners = {(what, name): "transfuse" for what in ENTRIES for name in packaged.value.get(what, {})}
    for contents in plugins.loaded:
        try:
            entries = _entries(contents, owners)
        except TransfuseError as error:
            warnings.warn(str(error), PluginWarning, stacklevel=3)
            continue
        brought = brought.merge(entries)
    return brought


def _entries(contents: PluginContents, owners: dict[tuple[str, str], str]) -> Located:
    """One plugin's entries, whose names are entered among ``owners``."""
    value = {what: dict(named) for what, named in contents.entries.items()}
    entries = checked(Located.from_source(f"{contents.plugin}:", value))
    names = [(what, name) for what, named in entries.value.items() for name in named]
    for what, key in names:
        if (what, key) in owners:
            raise PluginError(contents.plugin, f"brings {what}.{key}, which {owners[what, key]} has already")
    owners.update(dict.fromkeys(names, str(contents.plugin)))
    return entries
