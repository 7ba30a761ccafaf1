"""A part is a named piece that plugins offer: its settings and how to build it, not a built object.

So what a registry or ``--set`` says about a part is checked, key by key, before anything is built.
"""

import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, core_schema

from transfuse.config.merge import NAMING_KEYS, lay
from transfuse.config.validation import Misfit, fit, short
from transfuse.errors import TransfuseError, did_you_mean

KINDS = ("codec", "patcher", "objective", "sampler", "modality", "block", "attention", "dataset", "metric")


class Settings(BaseModel):
    """What a part can be told, validated: unknown keys, wrong types, NaN and infinity are refused.

    A field that holds a nested part is annotated with `PartOf`. A default is validated like any
    value, so the default of a nested part is written as its section.

    fit_by: the fields on which depends what the part learns from the data before any model is trained;
    None: all of them. A modality of an autoencoder says ``("codec",)``, so that another sampler or
    objective asks for no other autoencoder.
    """

    fit_by: ClassVar[tuple[str, ...] | None] = None

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _section(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise Misfit([((), f"should be a mapping of settings, not {short(values)}")])
        known = {name for key, field in cls.model_fields.items() for name in (key, field.alias) if name}
        unknown = [key for key in values if key not in known]
        if unknown:
            raise Misfit(((key,), f"unknown key, {did_you_mean(str(key), known)}") for key in unknown)
        numbers = {key for key, field in cls.model_fields.items() if _only_numbers(field.annotation)}
        truths = [key for key, value in values.items() if key in numbers and isinstance(value, bool)]
        if truths:
            raise Misfit(((key,), f"should be a number, not {str(values[key]).lower()}") for key in truths)
        return {key: _over_default(cls.model_fields.get(key), value) for key, value in values.items()}


@dataclass(frozen=True)
class Part:
    """A named piece a plugin offers.

    kind: one of `KINDS`; the hook that offers it is named after it.
    settings: what its section may say.
    build: ``build(settings, **context)``; `transfuse.registry.hooks` says which context each kind hands over.
        It may take fewer of the context's arguments than its kind hands over.
    summary: one line for lists.
    """

    kind: str
    name: str
    settings: type[Settings]
    build: Callable[..., Any]
    summary: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TransfuseError(
                f"part {self.name!r}: no such kind as {self.kind!r}; {did_you_mean(self.kind, KINDS)}"
            )
        what = f"{self.kind} {self.name!r}"
        if not isinstance(self.name, str) or not self.name or self.name != self.name.strip():
            raise TransfuseError(f"{what}: a part's name is a word such as 'kl'")
        if not (isinstance(self.settings, type) and issubclass(self.settings, Settings)):
            raise TransfuseError(
                f"{what}: settings must be a subclass of Settings, not {short(self.settings)}"
            )
        strange = sorted(set(self.settings.fit_by or ()) - self.settings.model_fields.keys())
        if strange:
            raise TransfuseError(f"{what}: fit_by names {strange[0]!r}, which is no field of its settings")
        if not callable(self.build):
            raise TransfuseError(f"{what}: build must be callable, not {short(self.build)}")
        if naming_key(self.kind) in self.settings.model_fields:
            raise TransfuseError(
                f"{what}: settings cannot have a field {naming_key(self.kind)!r}, which names the part itself"
            )


def noun(kind: str) -> str:
    """What a part of this kind is called in messages."""
    return {"attention": "attention backend", "dataset": "data set"}.get(kind, kind)


def naming_key(kind: str) -> str:
    """The key that names a part of this kind in its section."""
    return NAMING_KEYS[0] if kind == "modality" else NAMING_KEYS[1]


@dataclass(frozen=True)
class Chosen:
    """A part together with its validated settings: all it takes to build it."""

    part: Part
    settings: Any  # an instance of part.settings; Any so that users need no cast

    @property
    def kind(self) -> str:
        return self.part.kind

    @property
    def name(self) -> str:
        return self.part.name

    def build(self, **context: Any) -> Any:
        """What the part builds, handed those of the context's arguments that it takes."""
        return self.part.build(self.settings, **_taken(self.part.build, context))

    def dump(self) -> dict[str, Any]:
        """The section that chooses this part with these settings, in full, as JSON."""
        return {naming_key(self.kind): self.name, **self.settings.model_dump(mode="json")}

    def learnt(self) -> dict[str, Any]:
        """The same, of only those settings that its fit to the data depends on (`Settings.fit_by`)."""
        dump, keys = self.dump(), self.settings.fit_by
        kept = {key: dump[key] for key in dump if keys is None or key in (naming_key(self.kind), *keys)}
        nested = {key: getattr(self.settings, key, None) for key in kept}
        return kept | {key: part.learnt() for key, part in nested.items() if isinstance(part, Chosen)}


class Offers(Protocol):
    """Where parts are looked up: the loaded plugins."""

    def part(self, kind: str, name: str) -> Part:
        """The part, or a `TransfuseError` that says which there are."""
        ...


def choose(offers: Offers, kind: str, section: Any) -> Chosen:
    """The part a section chooses: ``{name: kl, channels: 4}``, or ``kl``. Raises `Misfit`."""
    if isinstance(section, Chosen):
        if section.kind != kind:
            raise Misfit([((), f"should be a {noun(kind)}, not the {noun(section.kind)} {section.name!r}")])
        return section
    key = naming_key(kind)
    if isinstance(section, str):
        section = {key: section}
    if not isinstance(section, Mapping):
        raise Misfit(
            [((), f"should be the name of a {noun(kind)} or a section with a {key!r}, not {short(section)}")]
        )
    if not isinstance(section.get(key), str):
        raise Misfit([((), f"needs {key!r}: which {noun(kind)} it is")])
    try:
        part = offers.part(kind, section[key])
    except TransfuseError as unknown:
        raise Misfit([((), str(unknown))]) from unknown
    values = {name: value for name, value in section.items() if name != key}
    return Chosen(part, fit(part.settings, values, offers))


@dataclass(frozen=True)
class PartOf:
    """Marks a settings field that holds a nested part.

    >>> class ImageSettings(Settings):
    ...     codec: Annotated[Chosen, PartOf("codec")] = Field(default={"name": "kl"}, validate_default=True)
    ...     sampler: Annotated[Chosen | None, PartOf("sampler")] = None

    The field takes a section or a `Chosen`. A section without a name changes the default's settings.
    Sections are read with the loaded plugins as pydantic's validation context. core: names of parts that come
    with core and have no settings; such a name stays one.
    """

    kind: str
    core: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        optional = get_origin(source) in (Union, types.UnionType) and type(None) in get_args(source)

        def validate(value: Any, info: ValidationInfo) -> Chosen | str | None:
            if value is None and optional:
                return None
            offers: Any = info.context
            if self.core:
                section = value if isinstance(value, Mapping) else {"name": value}
                name = section.get("name")
                if name in self.core:
                    fit(Settings, {key: section[key] for key in section if key != "name"})
                    return name
                if isinstance(name, str) and offers is not None and name not in offers.parts(self.kind):
                    hint = did_you_mean(name, {*self.core, *offers.parts(self.kind)})
                    raise Misfit([((), f"unknown {noun(self.kind)} {name!r}, {hint}")])
            if offers is None and not isinstance(value, Chosen):
                raise Misfit([((), f"a {self.kind} is read with the loaded plugins: use Plugins.choose")])
            return choose(offers, self.kind, value)  # type: ignore[arg-type]

        def dump(value: Chosen | str | None) -> dict[str, Any] | str | None:
            return value.dump() if isinstance(value, Chosen) else value

        return core_schema.with_info_plain_validator_function(
            validate, serialization=core_schema.plain_serializer_function_ser_schema(dump)
        )


def _taken(build: Callable[..., Any], context: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(build).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return context
    names = {parameter.name for parameter in parameters}
    return {key: value for key, value in context.items() if key in names}


def _over_default(field: FieldInfo | None, value: Any) -> Any:
    """A nested part's section laid over the field's default section."""
    if field is None or value is None or isinstance(value, Chosen) or isinstance(field.default, Chosen):
        return value
    if not any(isinstance(mark, PartOf) for mark in field.metadata) or field.default in (
        PydanticUndefined,
        None,
    ):
        return value
    return lay(field.default, value)


def _only_numbers(annotation: Any) -> bool:
    """Whether a field takes numbers (or None) and nothing else; ``true`` is no number."""
    if annotation in (int, float):
        return True
    members: Iterable[Any] = (
        get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()
    )
    return bool(members) and all(member in (int, float, type(None)) for member in members)
