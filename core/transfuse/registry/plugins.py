"""The plugins at hand: the one place that finds them, and the one that everybody asks for parts.

A broken plugin is left out with its reason and a warning; the healthy ones work on, and whoever asks
for a part that only the broken one can have offered is told.
"""

import os
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from transfuse.config.parts import Chosen, Part, choose, noun
from transfuse.config.validation import Misfit
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.registry.plugin_contents import Offer, Origin, PluginError, read

GROUP = "transfuse.plugins"
VARIABLE = "TRANSFUSE_PLUGINS"


class PluginWarning(UserWarning):
    """A plugin is left out, and why."""


@dataclass(frozen=True)
class Row:
    """A plugin in a list. status: ``loaded``, ``disabled`` or ``broken``; reason: why it is not loaded."""

    name: str
    distribution: str
    version: str
    status: str
    reason: str
    offers: tuple[str, ...]


class Plugins:
    """Loaded plugins, those left out as broken, and those that are switched off."""

    def __init__(
        self,
        offers: Iterable[Offer],
        broken: Iterable[PluginError] = (),
        disabled: Mapping[Origin, str] | None = None,
    ) -> None:
        self.offers = tuple(sorted(offers, key=lambda offer: offer.origin.name))
        self.broken = tuple(broken)
        self.disabled = dict(disabled or {})
        self._by_name: dict[tuple[str, str], list[tuple[Part, Origin]]] = defaultdict(list)
        for offer in self.offers:
            for part in offer.parts:
                self._by_name[part.kind, part.name].append((part, offer.origin))

    @classmethod
    def of(cls, modules: Mapping[str, object]) -> "Plugins":
        """Plugins from modules by name, for tests and notebooks. The first fault is raised."""
        plugins = cls([read(module, Origin(name)) for name, module in modules.items()])
        for clash in plugins.clashes():
            raise clash
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
        offers: list[Offer] = []
        broken: list[PluginError] = []
        off: dict[Origin, str] = {}
        for name, points in sorted(found.items()):
            if name in disabled or (wanted is not None and name not in wanted):
                reason = "listed under plugins.disabled" if name in disabled else f"not in {source}"
                off.update({_origin(point): reason for point in points})
                continue
            try:
                offers.append(_load(points))
            except PluginError as error:
                broken.append(error)
        plugins = cls(offers, broken, off)
        for error in (*broken, *plugins.clashes()):
            _warn(str(error))
        return plugins

    def clashes(self) -> list[TransfuseError]:
        """An error for every part that two plugins offer."""
        return [_clash(*name, offered) for name, offered in sorted(self._by_name.items()) if len(offered) > 1]

    def part(self, kind: str, name: str) -> Part:
        """The part of this name. Raises `TransfuseError` for one nobody, or more than one, offers."""
        offered = self._by_name.get((kind, name), [])
        if len(offered) > 1:
            raise _clash(kind, name, offered)
        if not offered:
            raise TransfuseError(
                f"unknown {noun(kind)} {name!r}, {did_you_mean(name, self.parts(kind))}{self._absent()}"
            )
        return offered[0][0]

    def parts(self, kind: str) -> dict[str, Part]:
        """The parts of a kind by name, sorted; without those that two plugins offer."""
        return {
            name: offered[0][0]
            for (of_kind, name), offered in sorted(self._by_name.items())
            if of_kind == kind and len(offered) == 1
        }

    def choose(self, kind: str, section: Any, place: str = "") -> Chosen:
        """The part that a section such as ``{name: kl, channels: 4}`` or ``"kl"`` chooses.

        Raises `TransfuseError` naming the dotted place, counted from ``place``, of all that is wrong.
        """
        try:
            return choose(self, kind, section)
        except Misfit as misfit:
            raise misfit.error(place or kind) from misfit

    def listing(self) -> list[Row]:
        """All plugins, loaded or not, by name."""
        rows = [
            _row(offer.origin, "loaded", "", tuple(f"{part.kind} {part.name}" for part in offer.parts))
            for offer in self.offers
        ]
        rows += [_row(error.origin, "broken", error.reason) for error in self.broken]
        rows += [_row(origin, "disabled", reason) for origin, reason in self.disabled.items()]
        return sorted(rows, key=lambda row: (row.name, row.distribution))

    def _absent(self) -> str:
        """The tail of "unknown part": which plugins could have offered it."""
        tail = "".join(f"\n  left out: {error}" for error in self.broken)
        if self.disabled:
            tail += f"\n  disabled: {', '.join(sorted(origin.name for origin in self.disabled))}"
        return tail


def _wanted(only: Collection[str] | None) -> tuple[Collection[str] | None, str]:
    """The names to load, None for all, and who said so."""
    if only is not None:
        return only, "only"
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    return names or None, VARIABLE


def _load(points: Sequence[EntryPoint]) -> Offer:
    """Import and read the one plugin of a name."""
    origin = _origin(points[0])
    if len(points) > 1:
        others = " and ".join(str(_origin(point)) for point in points[1:])
        raise PluginError(origin, f"and {others} share one name, so neither is loaded")
    try:
        module = points[0].load()
    except (Exception, SystemExit) as error:
        raise PluginError(origin, f"does not import: {_described(error)}") from error
    try:
        return read(module, origin)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(origin, f"fails: {_described(error)}") from error


def _described(error: BaseException) -> str:
    return "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])


def _origin(point: EntryPoint) -> Origin:
    return Origin(point.name, point.dist.name, point.dist.version) if point.dist else Origin(point.name)


def _clash(kind: str, name: str, offered: Sequence[tuple[Part, Origin]]) -> TransfuseError:
    who = " and ".join(str(origin) for _, origin in offered)
    return TransfuseError(
        f"{who} both offer the {noun(kind)} {name!r}. List one of them under plugins.disabled"
    )


def _row(origin: Origin, status: str, reason: str, offers: tuple[str, ...] = ()) -> Row:
    return Row(origin.name, origin.distribution, origin.version, status, reason, offers)


def _warn(message: str) -> None:
    warnings.warn(message, PluginWarning, stacklevel=3)
