"""Where registries lie, in which order they are merged, and what one may say."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from transfuse.config.located import Located
from transfuse.config.parts import Settings
from transfuse.config.recipe import MaskField
from transfuse.config.validation import InvalidSettings, short
from transfuse.errors import TransfuseError

VARIABLE = "TRANSFUSE_REGISTRY"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
CONSTANTS = ("full", "none")
"""Masks that need no name."""


def _role_section(value: Any) -> Any:
    if value is None or isinstance(value, str | dict):
        return value
    raise InvalidSettings([((), f"should be the name of a modality, a section or null, not {short(value)}")])


def _free_name(name: str) -> str:
    if name in CONSTANTS:
        raise ValueError(f"{name!r} is a mask already; choose another name")
    return name


Name = Annotated[str, StringConstraints(pattern=rf"^{NAME.pattern}$")]
MaskName = Annotated[Name, AfterValidator(_free_name)]
RoleSection = Annotated[Any, AfterValidator(_role_section)]


class PluginSwitches(Settings):
    """Which plugins are off."""

    disabled: tuple[str, ...] = ()
    """Names of plugins that are not loaded; the topmost file that gives the list decides."""


class Changes(Settings):
    """What a recipe may say, all of it optional."""

    modalities: dict[str, RoleSection] = Field(default_factory=dict)
    """By role, the name of a modality of the registry, a section (merged over the inherited one), or null to
    leave the role out."""
    mask: str | None = None
    """A name or an expression."""
    crossing: bool = False
    """Whether documents of one row may see each other."""
    loss: dict[str, Any] = Field(default_factory=dict)
    """The weight of every role."""
    model: dict[str, Any] = Field(default_factory=dict)
    """The backbone."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Budget, data order, optimiser."""
    eval: dict[str, Any] = Field(default_factory=dict)
    """Tasks and the number of prompts."""
    attention: Any = "auto"
    """``auto``, or an attention backend."""


class RecipeEntry(Changes):
    """A recipe as a registry has it."""

    extends: Name | None = None
    """The recipe from which everything is inherited that this one leaves out."""
    summary: str = ""
    """One line for lists; not inherited."""
    data: dict[str, Changes] = Field(default_factory=dict)
    """By the name of a data set, what the recipe changes on it."""


class RegistryFile(Settings):
    """A registry file, or what a plugin brings."""

    plugins: PluginSwitches = PluginSwitches()
    """Which plugins are off."""
    modalities: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    """Settings of modalities by a name that recipes use."""
    masks: dict[MaskName, MaskField] = Field(default_factory=dict)
    """Masks by name."""
    recipes: dict[Name, RecipeEntry] = Field(default_factory=dict)
    """Recipes by name."""
    compare: tuple[str, ...] = Field(default=(), max_length=64)
    """The recipes that ``transfuse compare`` compares where it is given none; the topmost file that gives the list
    decides."""
    metrics: dict[Name, dict[str, Any] | None] = Field(default_factory=dict)
    """Settings of metrics by their name, such as the weights that one judges by; null turns one off."""


def packaged_file() -> Path:
    """The registry that comes with transfuse: beside this file in a wheel, at the root in a checkout."""
    here = Path(__file__).resolve()
    for path in (here.parents[1] / "registry.yaml", here.parents[3] / "registry.yaml"):
        if path.is_file():
            return path
    raise TransfuseError(f"registry.yaml is missing in {here.parents[1]}: install transfuse again")


def named_file(name: Path | str) -> Path:
    """A registry by its path, or by the name of one that comes with transfuse: ``ladder``."""
    there = packaged_file().parent / "registries" / f"{name}.yaml"
    return there if there.is_file() and not Path(name).exists() else Path(name)


def standard_files(extra: Path | str | None = None) -> tuple[Path, ...]:
    """The files, lowest first: packaged, ./registry.yaml, $TRANSFUSE_REGISTRY, ``extra``.

    Only ./registry.yaml may be missing. A file that comes up twice is read once.
    """
    local = Path("registry.yaml")
    named = [named_file(path) for path in (os.environ.get(VARIABLE), extra) if path]
    files: dict[Path, Path] = {}
    for path in (packaged_file(), *([local] if local.is_file() else []), *named):
        files.setdefault(path.resolve(), path)
    return tuple(files.values())


def read_registry(path: Path) -> Located:
    """A registry file, its masks parsed. Raises `TransfuseError` with line and place where its shape is wrong."""
    located = Located.from_file(path)
    if isinstance(located.value, Mapping):  # a heading with nothing under it counts as empty
        filled = {key: {} if value is None else value for key, value in located.value.items()}
        located = Located(filled, located.locations)
    return checked(located)


def checked(located: Located) -> Located:
    """The registry itself, its masks parsed, once its shape is right."""
    masks = located.validate(RegistryFile).masks
    return Located({**located.value, "masks": masks}, located.locations)
