"""The plugins at hand: the one place that finds them, and the one that everybody asks for parts.

A broken plugin is left out with its reason and a warning; the healthy ones work on, and whoever asks
for a part that only the broken one can have gets an error that says so.
"""

import os
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from transfuse.config.located import Located
from transfuse.config.parts import ANYTHING, Chosen, Part, T, choose, noun
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.registry.plugin_contents import PluginContents, PluginError, PluginIdentity, read

GROUP = "transfuse.plugins"
VARIABLE = "TRANSFUSE_PLUGINS"


class PluginWarning(UserWarning):
    """A plugin is left out, and why."""


@dataclass(frozen=True)
class Row:
    """A plugin in a list."""

    plugin: PluginIdentity
    status: str
    """``loaded``, ``disabled`` or ``broken``."""
    reason: str = ""
    """Why it is not loaded."""
    provides: tuple[str, ...] = ()
    """Kind and name of each part."""


class Plugins:
    """Loaded plugins, those left out as broken, and those that are switched off."""

    def __init__(
        self,
        loaded: Iterable[PluginContents],
        broken: Iterable[PluginError] = (),
        disabled: Mapping[PluginIdentity, str] | None = None,
    ) -> None:
        self.loaded = tuple(sorted(loaded, key=lambda contents: contents.plugin.name))
        self.broken = tuple(broken)
        self.disabled = dict(disabled or {})
        self._parts: dict[tuple[str, str], Part] = {}
        self.clashes: dict[tuple[str, str], str] = {}
        """What to say of every part, by kind and name, that two plugins provide."""
        for kind, name in sorted({key for contents in self.loaded for key in contents.parts}):
            providers = [contents for contents in self.loaded if (kind, name) in contents.parts]
            if len(providers) == 1:
                self._parts[kind, name] = providers[0].parts[kind, name]
            else:
                who = " and ".join(str(contents.plugin) for contents in providers)
                self.clashes[kind, name] = (
                    f"{who} both provide the {noun(kind)} {name!r}. List one of them under plugins.disabled"
                )

    @classmethod
    def of(cls, modules: Mapping[str, object]) -> "Plugins":
        """Plugins from modules by name, for tests and notebooks. The first fault is raised."""
        plugins = cls([read(module, PluginIdentity(name)) for name, module in modules.items()])
        for clash in plugins.clashes.values():
            raise TransfuseError(clash)
        return plugins

    @classmethod
    def load(cls, disabled: Collection[str] = (), only: Collection[str] | None = None) -> "Plugins":
        """The installed plugins, from the entry points ``transfuse.plugins``.

        disabled: names that are not imported. only: the names to load, all if None; the environment's
        ``TRANSFUSE_PLUGINS=a,b`` where it is not given. A name in ``only`` that is not installed is an
        error; a broken plugin, or two of one name, are left out with a warning.
        """
        found: dict[str, list[EntryPoint]] = defaultdict(list)
        for point in entry_points(group=GROUP):
            found[point.name].append(point)
        wanted, source = _wanted(only)
        for name in sorted(set(wanted or ()) - set(found)):
            raise TransfuseError(f"{source}: no plugin {name!r} is installed, {did_you_mean(name, found)}")
        for name in sorted(set(disabled) - set(found)):
            _warn(f"plugins.disabled: no plugin {name!r} is installed, {did_you_mean(name, found)}")
        loaded: list[PluginContents] = []
        broken: list[PluginError] = []
        off: dict[PluginIdentity, str] = {}
        for name, points in sorted(found.items()):
            if name in disabled or (wanted is not None and name not in wanted):
                reason = "listed under plugins.disabled" if name in disabled else f"not in {source}"
                off.update({_identity(point): reason for point in points})
                continue
            try:
                loaded.append(_load(points))
            except PluginError as error:
                broken.append(error)
        plugins = cls(loaded, broken, off)
        for fault in (*map(str, broken), *plugins.clashes.values()):
            _warn(fault)
        return plugins

    def part(self, kind: str, name: str) -> Part:
        """The part of this name. Raises `TransfuseError` for one nobody, or more than one, provides."""
        if (kind, name) in self.clashes:
            raise TransfuseError(self.clashes[kind, name])
        if (kind, name) not in self._parts:
            hint = did_you_mean(name, self.parts(kind))
            raise TransfuseError(f"unknown {noun(kind)} {name!r:.80}, {hint}{self._absent()}")
        return self._parts[kind, name]

    def parts(self, kind: str) -> dict[str, Part]:
        """The parts of a kind by name, sorted; without those that two plugins provide."""
        return {name: part for (of_kind, name), part in self._parts.items() if of_kind == kind}

    def choose(self, kind: str, section: Any, place: str = "", builds: type[T] = ANYTHING) -> Chosen[T]:
        """The part that a section such as ``{name: kl, channels: 4}`` or ``"kl"`` chooses, to build ``builds``.

        Raises `TransfuseError` naming the dotted place, counted from ``place``, of all that is wrong.
        """
        with Located.from_source("", section, (place or kind,)).errors():
            return choose(self, kind, section, builds)

    @property
    def versions(self) -> dict[str, str]:
        """Each loaded plugin's distribution and version."""
        return {contents.plugin.name: contents.plugin.origin for contents in self.loaded}

    def listing(self) -> list[Row]:
        """All plugins, loaded or not, by name."""
        rows = [
            Row(contents.plugin, "loaded", provides=tuple(f"{kind} {name}" for kind, name in contents.parts))
            for contents in self.loaded
        ]
        rows += [Row(error.plugin, "broken", error.reason) for error in self.broken]
        rows += [Row(plugin, "disabled", reason) for plugin, reason in self.disabled.items()]
        return sorted(rows, key=lambda row: (row.plugin.name, row.plugin.distribution))

    def _absent(self) -> str:
        """The tail of "unknown part": which plugins could have provided it."""
        tail = "".join(f"\n  left out: {error}" for error in self.broken)
        if self.disabled:
            tail += f"\n  disabled: {', '.join(sorted(plugin.name for plugin in self.disabled))}"
        return tail


def _wanted(only: Collection[str] | None) -> tuple[Collection[str] | None, str]:
    """The names to load, None for all, and by what."""
    if only is not None:
        return only, "only"
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    return names or None, VARIABLE


def _load(points: Sequence[EntryPoint]) -> PluginContents:
    """Import and read the one plugin of a name."""
    plugin = _identity(points[0])
    if len(points) > 1:
        others = " and ".join(str(_identity(point)) for point in points[1:])
        raise PluginError(plugin, f"and {others} share one name, so neither is loaded")
    try:
        module = points[0].load()
    except (Exception, SystemExit) as error:
        raise PluginError(plugin, f"does not import: {_described(error)}") from error
    try:
        return read(module, plugin)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(plugin, f"fails: {_described(error)}") from error


def _described(error: BaseException) -> str:
    return "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])


def _identity(point: EntryPoint) -> PluginIdentity:
    distribution = (point.dist.name, point.dist.version) if point.dist else ()
    return PluginIdentity(point.name, *distribution)


def _warn(message: str) -> None:
    warnings.warn(message, PluginWarning, stacklevel=3)
