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
from transfuse.config.validation import InvalidSettings, short, validate
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
    """disabled: names of plugins that are not loaded; the topmost file that gives the list decides."""

    disabled: tuple[str, ...] = ()


class Changes(Settings):
    """What a recipe may say, all of it optional.

    modalities: by role, the name of a modality of the registry, a section (laid over the inherited
    one), or null to leave the role out. mask: a name or an expression.
    """

    modalities: dict[str, RoleSection] = Field(default_factory=dict)
    mask: str | None = None
    loss: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    attention: Any = "auto"


class RecipeEntry(Changes):
    """A recipe as a registry has it: what it leaves out is inherited from the one it extends.

    summary: one line for lists. data: by the name of a data set, what the recipe changes on it.
    """

    extends: Name | None = None
    summary: str = ""
    data: dict[str, Changes] = Field(default_factory=dict)


class RegistryFile(Settings):
    """A registry file, or what a plugin brings. Every key is optional."""

    plugins: PluginSwitches = PluginSwitches()
    modalities: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    masks: dict[MaskName, MaskField] = Field(default_factory=dict)
    recipes: dict[Name, RecipeEntry] = Field(default_factory=dict)


def packaged_file() -> Path:
    """The registry that comes with transfuse: beside this file in a wheel, at the root in a checkout."""
    here = Path(__file__).resolve()
    for path in (here.parents[1] / "registry.yaml", here.parents[3] / "registry.yaml"):
        if path.is_file():
            return path
    raise TransfuseError(f"registry.yaml is missing in {here.parents[1]}: install transfuse again")


def standard_files(extra: Path | str | None = None) -> tuple[Path, ...]:
    """The files, lowest first: packaged, ./registry.yaml, $TRANSFUSE_REGISTRY, ``extra``.

    Only ./registry.yaml may be missing. A file that comes up twice is read once.
    """
    local = Path("registry.yaml")
    named = [Path(path) for path in (os.environ.get(VARIABLE), extra) if path]
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
    with located.errors():
        masks = validate(RegistryFile, located.value).masks
    return Located({**located.value, "masks": masks}, located.locations)
