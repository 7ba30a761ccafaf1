"""A section becomes validated settings, or a list of faults, each with its place in the section."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Loc = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


class InvalidSettings(ValueError):
    """What is wrong with a section: (place relative to the section, sentence) pairs.

    Validators raise it, so that a fault deep inside a part keeps its place; whoever knows where the
    section stands turns it into a `TransfuseError` that says so.
    """

    def __init__(self, faults: Iterable[tuple[Loc, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{dotted(loc)}: {sentence}" for loc, sentence in self.faults))


def dotted(loc: Loc) -> str:
    """``("image", "layers", 0)`` as people write it: ``image.layers[0]``."""
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


EXPECTED = {
    "int_type": "an integer", "float_type": "a number", "bool_type": "true or false", "string_type": "text",
    "dict_type": "a mapping", "model_type": "a mapping", "tuple_type": "a list", "list_type": "a list",
}  # fmt: skip
"""What a value should be, by the name that pydantic gives to its not being that."""


def validate(model: type[Model], section: Any, context: object = None) -> Model:
    """The section as a validated ``model``. Raises `InvalidSettings` for all that pydantic finds wrong with it."""
    try:
        return model.model_validate(section, context=context)
    except ValidationError as invalid:
        raise InvalidSettings(_faults(invalid)) from None


def _faults(invalid: ValidationError) -> Iterator[tuple[Loc, str]]:
    for error in invalid.errors(include_url=False):
        loc = tuple(step for step in error["loc"] if step != "[key]")
        kind, message = error["type"], error["msg"]
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, InvalidSettings):
            yield from (((*loc, *inner), sentence) for inner, sentence in cause.faults)
        elif isinstance(cause, Exception):
            yield loc, str(cause)
        elif kind == "missing":
            yield loc, "is missing"
        elif kind in EXPECTED:
            yield loc, f"should be {EXPECTED[kind]}, not {short(error['input'])}"
        else:
            yield loc, f"{message[:1].lower()}{message[1:]}, not {short(error['input'])}"


def short(value: object) -> str:
    """The value as an error message can afford to show it, and as a file has it."""
    text = str(value).lower() if isinstance(value, bool) else repr(_lists(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def tuples(value: Any) -> Any:
    """A file's lists as the tuples that settings hold."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def _lists(value: Any) -> Any:
    return list(map(_lists, value)) if isinstance(value, tuple) else value
