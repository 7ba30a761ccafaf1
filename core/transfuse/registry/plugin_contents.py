"""What one plugin offers, read from its module with every fault named that pluggy would let pass."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pluggy

from transfuse.config.parts import Part
from transfuse.config.validation import short
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.registry import hooks
from transfuse.registry.hooks import HOOKS, PARTS_HOOKS, PROJECT

CURE = "Fix it, uninstall it, or list it under plugins.disabled"
ENTRIES = ("modalities", "masks", "recipes")


@dataclass(frozen=True)
class Origin:
    """Who a plugin is: its entry point's name, and the distribution that brings it ("" if none does)."""

    name: str
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        source = f" (from {self.distribution} {self.version})" if self.distribution else ""
        return f"plugin {self.name!r}{source}"


@dataclass(frozen=True)
class Offer:
    """A healthy plugin: its parts, and its registry entries under ``modalities, masks, recipes``."""

    origin: Origin
    parts: tuple[Part, ...]
    entries: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))


class PluginError(TransfuseError):
    """A plugin cannot be used: who it is, the reason, and the cure."""

    def __init__(self, origin: Origin, reason: str) -> None:
        self.origin, self.reason = origin, " ".join(reason.split())
        stop = "" if self.reason.endswith(("?", ".")) else "."
        super().__init__(f"{origin} {self.reason}{stop} {CURE}")


def read(module: object, origin: Origin) -> Offer:
    """Everything a plugin offers, checked.

    Raises `PluginError` for what is wrong with it, and what a hook itself raises with a note naming
    plugin and hook. One pluggy manager serves one plugin, so that no plugin sees another.
    """
    plugin = pluggy.PluginManager(PROJECT)
    plugin.add_hookspecs(hooks)
    implemented = _implemented(plugin, module, origin)
    try:
        plugin.register(module, name=origin.name)
        plugin.check_pending()
    except pluggy.PluginValidationError as invalid:
        raise PluginError(origin, f"is refused: {' '.join(str(invalid).split())}") from invalid
    answers = {hook: _call(plugin, hook, origin) for hook in implemented}
    parts = [
        part
        for kind, hook in PARTS_HOOKS.items()
        if hook in answers
        for part in _parts(answers[hook], kind, hook, origin)
    ]
    for part in parts:
        if sum((part.kind, part.name) == (other.kind, other.name) for other in parts) > 1:
            raise PluginError(origin, f"offers the {part.kind} {part.name!r} twice")
    return Offer(origin, tuple(parts), _entries(answers.get("transfuse_registry", {}), origin))


def _implemented(plugin: pluggy.PluginManager, module: object, origin: Origin) -> list[str]:
    """The hooks a module implements; a misspelt or unmarked one is an error."""
    marked = {
        name: options.get("specname") or name
        for name in dir(module)
        if (options := plugin.parse_hookimpl_opts(module, name)) is not None
    }
    for name in sorted(set(marked.values()) - set(HOOKS)):
        raise PluginError(origin, f"implements no such hook as {name!r}, {did_you_mean(name, HOOKS)}")
    for name in HOOKS:
        function = getattr(module, name, None)
        if callable(function) and name not in marked and function is not getattr(hooks, name):
            raise PluginError(origin, f"has {name} without the marker @hookimpl")
    if not marked:
        raise PluginError(origin, f"implements no hook; the hooks are {', '.join(HOOKS)}")
    return sorted(marked.values())


def _call(plugin: pluggy.PluginManager, hook: str, origin: Origin) -> object:
    try:
        answers = getattr(plugin.hook, hook)()
    except TransfuseError as error:
        raise PluginError(origin, f"fails in {hook}: {error}") from error
    except Exception as error:
        error.add_note(f"raised by {origin} in the hook {hook}")
        raise
    return answers[0] if answers else None  # pluggy leaves out an answer None


def _parts(answer: object, kind: str, hook: str, origin: Origin) -> Iterator[Part]:
    if not isinstance(answer, list | tuple):
        raise PluginError(origin, f"offered {short(answer)} in {hook}, not a list of Part")
    for part in answer:
        if not isinstance(part, Part):
            raise PluginError(origin, f"offered {short(part)} in {hook}, not a Part")
        if part.kind != kind:
            raise PluginError(
                origin,
                f"offered the {part.kind} {part.name!r} in {hook}; its hook is {PARTS_HOOKS[part.kind]}",
            )
        yield part


def _entries(answer: object, origin: Origin) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(answer, Mapping):
        raise PluginError(origin, f"offered {short(answer)} in transfuse_registry, not a dict")
    for key, named in answer.items():
        if key not in ENTRIES:
            hint = did_you_mean(str(key), ENTRIES)
            raise PluginError(origin, f"offered an unknown key {key!r} in transfuse_registry, {hint}")
        if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
            raise PluginError(
                origin, f"offered {short(named)} as {key} in transfuse_registry, not a dict by name"
            )
    return MappingProxyType(dict(answer))
