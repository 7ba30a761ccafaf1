"""A part is a named piece that plugins provide: its settings and how to build it, not a built object.

So what a registry or ``--set`` says about a part is checked, key by key, before anything is built.
"""

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Protocol, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from transfuse.config.merge import NAMING_KEYS, merge
from transfuse.config.origin import Origin, told
from transfuse.config.validation import InvalidSettings, short, tuples, validate
from transfuse.errors import TransfuseError, did_you_mean

T = TypeVar("T")
ANYTHING: Any = object
"""What a part must build where nobody says."""


class Settings(BaseModel):
    """What a part can be given, validated: unknown keys, wrong types, NaN and infinity are refused.

    Strict: ``true`` and ``"1"`` are no numbers; only a list becomes a tuple, since files have no tuples. A
    field's docstring stands under it. A field that holds a nested part is annotated with `PartOf`. A
    default is validated like any value, so the default of a nested part is written as its section.
    """

    fit_by: ClassVar[tuple[str, ...] | None] = None
    """The fields on which depends what the part learns from the data before any model is trained; None:
    all of them. A modality of an autoencoder says ``("codec",)``, so that another sampler or objective asks
    for no other autoencoder."""
    sampled_by: ClassVar[tuple[str, ...]] = ()
    """Fields that matter only when samples are drawn, so that a trained run may be given others: a sampler,
    guidance, a temperature. What changes weights, or what they mean, is none of them."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )

    def scaled(self, by: int) -> "Settings | None":
        """These settings so that the part makes sides of raw data ``by`` times smaller, such as an autoencoder's
        ``down`` or a patcher's ``patch``; None where it has no say in that, or where it was said already
        (``model_fields_set``). So the lab chooses, from the data's shapes, what nobody set.

        Raises InvalidSettings where the part cannot make them so much smaller.
        """
        return None

    def changed(self, **values: Any) -> Any:
        """The same settings but for these values. Raises InvalidSettings where they are wrong."""
        there = {name: getattr(self, name) for name in type(self).model_fields}
        valid = validate(type(self), there | values)
        return self.model_copy(update={name: getattr(valid, name) for name in values})

    @model_validator(mode="before")
    @classmethod
    def _section(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise InvalidSettings([((), f"should be a mapping of settings, not {short(values)}")])
        fields = cls.model_fields
        unknown = [key for key in values if key not in fields]
        if unknown:
            raise InvalidSettings(((k,), f"unknown key, {did_you_mean(str(k), fields)}") for k in unknown)
        return {key: _over_default(fields[key], tuples(value)) for key, value in values.items()}


@dataclass(frozen=True)
class Part:
    """A named piece that a plugin provides; the hook that returns it says of which kind."""

    name: str
    settings: type[Settings]
    """What its section may say."""
    build: Callable[..., Any]
    """``build(settings, **context)``; `transfuse.registry.hooks` says which context each kind hands over.
    It may take fewer of the context's arguments than its kind hands over."""
    summary: str = ""
    """One line for lists."""
    plugin: str = field(default="", compare=False)
    """Whose it is, distribution and version, for messages; set where plugins are read."""

    def __post_init__(self) -> None:
        what = f"part {self.name!r}"
        if not isinstance(self.name, str) or not self.name or self.name != self.name.strip():
            raise TransfuseError(f"{what}: a part's name is a word such as 'kl'")
        if not (isinstance(self.settings, type) and issubclass(self.settings, Settings)):
            raise TransfuseError(f"{what}: settings must subclass Settings, not be {short(self.settings)}")
        for of in ("fit_by", "sampled_by"):
            strange = sorted(set(getattr(self.settings, of) or ()) - self.settings.model_fields.keys())
            if strange:
                raise TransfuseError(f"{what}: {of} names {strange[0]!r}, which is no field of its settings")
        if not callable(self.build):
            raise TransfuseError(f"{what}: build must be callable, not {short(self.build)}")
        for key in NAMING_KEYS:
            if key in self.settings.model_fields:
                raise TransfuseError(f"{what}: settings cannot have field {key!r}, which names a part itself")

    def declares(self, wanted: type) -> bool:
        """Whether its builder is a class, or annotated to return one, that is ``wanted``."""
        made = self.build if isinstance(self.build, type) else inspect.signature(self.build).return_annotation
        return isinstance(made, type) and issubclass(made, wanted)


def noun(kind: str) -> str:
    """What a part of this kind is called in messages."""
    return {"attention": "attention backend", "dataset": "data set"}.get(kind, kind)


def naming_key(kind: str) -> str:
    """The key that names a part of this kind in its section."""
    return NAMING_KEYS[0] if kind == "modality" else NAMING_KEYS[1]


@dataclass(frozen=True)
class Chosen(Generic[T]):
    """A part together with its validated settings: all it takes to build a T."""

    kind: str
    part: Part
    settings: Any  # an instance of part.settings; Any so that users need no cast
    builds: type[T] = field(default=ANYTHING, compare=False, repr=False)
    """What it must build."""
    others: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Names of the parts that declare to build that, for a message."""

    @property
    def name(self) -> str:
        return self.part.name

    def build(self, **context: Any) -> T:
        """What the part builds, handed those of the context's arguments that it takes.

        Raises TransfuseError where that is no T, or where building it raises anything.
        """
        origin = Origin(noun(self.kind), self.name, str(context.get("name", self.name)), self.part.plugin)
        try:
            built = self.part.build(self.settings, **_taken(self.part.build, context))
        except TransfuseError:
            raise
        except Exception as error:
            raise told(origin, "building it", error) from error
        if not isinstance(built, self.builds):
            raise TransfuseError(
                f"{noun(self.kind)} {self.name!r} builds {type(built).__name__}, and here must be "
                f"{self.builds.__name__}; use {' or '.join(self.others) or 'another'}"
            )
        origin.mark(built)
        return built

    def dump(self) -> dict[str, Any]:
        """The section that chooses this part with these settings, in full, as JSON."""
        return {naming_key(self.kind): self.name, **self.settings.model_dump(mode="json")}

    def learnt(self) -> dict[str, Any]:
        """The same, of only those settings that its fit to the data depends on (`Settings.fit_by`)."""
        dump, keys = self.dump(), self.settings.fit_by
        kept = {key: dump[key] for key in dump if keys is None or key in (naming_key(self.kind), *keys)}
        nested = {key: getattr(self.settings, key, None) for key in kept}
        return kept | {key: part.learnt() for key, part in nested.items() if isinstance(part, Chosen)}


class PartLookup(Protocol):
    """Where parts are looked up: the loaded plugins."""

    def part(self, kind: str, name: str) -> Part:
        """The part, or a `TransfuseError` that says which there are."""
        ...

    def parts(self, kind: str) -> Mapping[str, Part]:
        """All parts of a kind by name."""
        ...


def choose(lookup: PartLookup, kind: str, section: Any, builds: type[T] = ANYTHING) -> Chosen[T]:
    """The part a section chooses: ``{name: kl, channels: 4}``, or ``kl``. Raises `InvalidSettings`.

    builds: what it must build; that is checked when it does.
    """
    if isinstance(section, Chosen):
        if section.kind != kind:
            raise InvalidSettings(
                [((), f"should be a {noun(kind)}, not the {noun(section.kind)} {section.name!r}")]
            )
        return section if builds is section.builds else replace(section, builds=builds)
    key = naming_key(kind)
    if isinstance(section, str):
        section = {key: section}
    if not isinstance(section, Mapping):
        raise InvalidSettings(
            [((), f"should be the name of a {noun(kind)} or a section with a {key!r}, not {short(section)}")]
        )
    if not isinstance(section.get(key), str):
        raise InvalidSettings([((), f"needs {key!r}: which {noun(kind)} it is")])
    try:
        part = lookup.part(kind, section[key])
    except TransfuseError as unknown:
        raise InvalidSettings([((), str(unknown))]) from unknown
    values = {name: value for name, value in section.items() if name != key}
    others = tuple(name for name, other in lookup.parts(kind).items() if other.declares(builds))
    return Chosen(kind, part, validate(part.settings, values, lookup), builds, others)


@dataclass(frozen=True)
class PartOf:
    """Marks a settings field that holds a nested part of a kind; ``Chosen[T]`` says what it must build.

    >>> class ImageSettings(Settings):
    ...     codec: Annotated[Chosen[Codec], PartOf("codec")] = Field(default={"name": "kl"}, validate_default=True)
    ...     sampler: Annotated[Chosen[Sampler] | None, PartOf("sampler")] = None

    The field takes a section or a `Chosen`. A section without a name changes the default's settings.
    Sections are read with the loaded plugins as pydantic's validation context. core: names of parts that come
    with core and have no settings; such a name stays one.
    """

    kind: str
    core: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        members = get_args(source) if get_origin(source) in (Union, types.UnionType) else (source,)
        builds = next((get_args(member)[0] for member in members if get_origin(member) is Chosen), ANYTHING)

        def check(value: Any, info: ValidationInfo) -> Chosen | str | None:
            if value is None and type(None) in members:
                return None
            lookup: Any = info.context
            if self.core:
                section = value if isinstance(value, Mapping) else {"name": value}
                name = section.get("name")
                if name in self.core:
                    validate(Settings, {key: section[key] for key in section if key != "name"})
                    return name
                if isinstance(name, str) and lookup is not None and name not in lookup.parts(self.kind):
                    hint = did_you_mean(name, {*self.core, *lookup.parts(self.kind)})
                    raise InvalidSettings([((), f"unknown {noun(self.kind)} {name!r:.80}, {hint}")])
            if lookup is None and not isinstance(value, Chosen):
                raise ValueError(f"a {self.kind} is read with the loaded plugins: use Plugins.choose")
            return choose(lookup, self.kind, value, builds)  # type: ignore[arg-type]

        def dump(value: Chosen | str | None) -> dict[str, Any] | str | None:
            return value.dump() if isinstance(value, Chosen) else value

        return core_schema.with_info_plain_validator_function(
            check, serialization=core_schema.plain_serializer_function_ser_schema(dump)
        )


def _taken(build: Callable[..., Any], context: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(build).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return context
    names = {parameter.name for parameter in parameters}
    return {key: value for key, value in context.items() if key in names}


def _over_default(field: FieldInfo, value: Any) -> Any:
    """A nested part's section merged over the field's default section."""
    nested = any(isinstance(mark, PartOf) for mark in field.metadata)
    return merge(field.default, value) if nested else value
