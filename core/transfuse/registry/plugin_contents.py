"""What one plugin provides, read from its module with every fault named that pluggy would let pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
class PluginIdentity:
    """Who a plugin is: its entry point's name, and the distribution that brings it ("" if none does)."""

    name: str
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        source = f" (from {self.distribution} {self.version})" if self.distribution else ""
        return f"plugin {self.name!r}{source}"

    @property
    def origin(self) -> str:
        """What its parts are said to be from: ``tf-series 0.1``."""
        return f"{self.distribution} {self.version}" if self.distribution else f"plugin {self.name!r}"


@dataclass(frozen=True)
class PluginContents:
    """A healthy plugin."""

    plugin: PluginIdentity
    parts: Mapping[tuple[str, str], Part]
    """By kind and name."""
    entries: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    """For the registry, under ``modalities, masks, recipes``."""


class PluginError(TransfuseError):
    """A plugin cannot be used: who it is, the reason, and the cure."""

    def __init__(self, plugin: PluginIdentity, reason: str) -> None:
        self.plugin, self.reason = plugin, " ".join(reason.split())
        stop = "" if self.reason.endswith(("?", ".")) else "."
        super().__init__(f"{plugin} {self.reason}{stop} {CURE}")


def read(module: object, plugin: PluginIdentity) -> PluginContents:
    """Everything a plugin provides, checked.

    Raises `PluginError` for what is wrong with it, and what a hook itself raises with a note naming
    plugin and hook. One pluggy manager serves one plugin, so that no plugin sees another.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hooks)
    implemented = _implemented(manager, module, plugin)
    try:
        manager.register(module, name=plugin.name)
        manager.check_pending()
    except pluggy.PluginValidationError as invalid:
        raise PluginError(plugin, f"is refused: {' '.join(str(invalid).split())}") from invalid
    answers = {hook: _call(manager, hook, plugin) for hook in implemented}
    parts: dict[tuple[str, str], Part] = {}
    for kind, hook in PARTS_HOOKS.items():
        for part in _parts(answers.get(hook, ()), hook, plugin):
            if (kind, part.name) in parts:
                raise PluginError(plugin, f"provides the {kind} {part.name!r} twice")
            parts[kind, part.name] = replace(part, plugin=plugin.origin)
    return PluginContents(plugin, parts, _entries(answers.get("transfuse_registry", {}), plugin))


def _implemented(manager: pluggy.PluginManager, module: object, plugin: PluginIdentity) -> list[str]:
    """The hooks a module implements; a misspelt or unmarked one is an error."""
    marked = {
        name: options.get("specname") or name
        for name in dir(module)
        if (options := manager.parse_hookimpl_opts(module, name)) is not None
    }
    for name in sorted(set(marked.values()) - set(HOOKS)):
        raise PluginError(plugin, f"implements no such hook as {name!r}, {did_you_mean(name, HOOKS)}")
    for name in HOOKS:
        function = getattr(module, name, None)
        if callable(function) and name not in marked and function is not getattr(hooks, name):
            raise PluginError(plugin, f"has {name} without the marker @hookimpl")
    if not marked:
        raise PluginError(plugin, f"implements no hook; the hooks are {', '.join(HOOKS)}")
    return sorted(marked.values())


def _call(manager: pluggy.PluginManager, hook: str, plugin: PluginIdentity) -> object:
    try:
        answers = getattr(manager.hook, hook)()
    except TransfuseError as error:
        raise PluginError(plugin, f"fails in {hook}: {error}") from error
    except Exception as error:
        error.add_note(f"raised by {plugin} in the hook {hook}")
        raise
    return answers[0] if answers else None  # pluggy leaves out an answer None


def _parts(answer: Any, hook: str, plugin: PluginIdentity) -> list[Part] | tuple[Part, ...]:
    if not isinstance(answer, list | tuple):
        raise PluginError(plugin, f"returned {short(answer)} from {hook}, not a list of Part")
    for part in answer:
        if not isinstance(part, Part):
            raise PluginError(plugin, f"returned {short(part)} from {hook}, not a Part")
    return answer


def _entries(answer: object, plugin: PluginIdentity) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(answer, Mapping):
        raise PluginError(plugin, f"returned {short(answer)} from transfuse_registry, not a dict")
    for key, named in answer.items():
        if key not in ENTRIES:
            hint = did_you_mean(str(key), ENTRIES)
            raise PluginError(plugin, f"returned an unknown key {key!r} from transfuse_registry, {hint}")
        if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
            raise PluginError(
                plugin, f"returned {short(named)} as {key} from transfuse_registry, not a dict by name"
            )
    return MappingProxyType(dict(answer))
