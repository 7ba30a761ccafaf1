"""A section becomes validated settings, or a list of faults, each with its place in the section."""

import re
from collections.abc import Iterable, Iterator, Mapping
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
    "int_parsing_size": "an integer of fewer digits",
}  # fmt: skip
"""What a value should be, by the name that pydantic gives to its not being that."""
MEMBER = re.compile(r"int|float|str|bool|none|[A-Z].*|.*[-\[].*", re.DOTALL)
"""What pydantic calls members of a union and keys of a mapping, in the place of a fault."""


def validate(model: type[Model], section: Any, context: object = None) -> Model:
    """The section as a validated ``model``. Raises `InvalidSettings` for all that pydantic finds wrong with it."""
    try:
        return model.model_validate(section, context=context)
    except ValidationError as invalid:
        raise InvalidSettings(_faults(invalid, section)) from None


def _faults(invalid: ValidationError, section: Any) -> list[tuple[Loc, str]]:
    faults: list[tuple[Loc, str]] = []
    wanted: dict[tuple[Loc, str], list[str]] = {}
    errors = invalid.errors(include_url=False)
    for error in errors:
        loc = tuple(_place(error["loc"], section))
        kind, (message, counted, _) = error["type"], error["msg"].partition(" after validation")
        if counted and any(error["loc"] == one["loc"][:-1] for one in errors):
            continue  # too few are left since others are wrong, which is said of them
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, InvalidSettings):
            faults += (((*loc, *inner), sentence) for inner, sentence in cause.faults)
        elif isinstance(cause, Exception):
            faults.append((loc, str(cause)))
        elif kind == "missing":
            faults.append((loc, "is missing"))
        elif kind in EXPECTED:
            wanted.setdefault((loc, short(error["input"])), []).append(EXPECTED[kind])
        else:
            message = message.replace("Tuple", "List").replace("Dictionary", "Mapping")
            faults.append((loc, f"{message[:1].lower()}{message[1:]}, not {short(error['input'])}"))
    told = [(*loc, "") for loc, _ in faults] + [loc for loc, _ in wanted]
    for (loc, given), kinds in wanted.items():  # of a union, what fits best speaks, else all of it
        if not any(len(other) > len(loc) and other[: len(loc)] == loc for other in told):
            faults.append((loc, f"should be {' or '.join(kinds)}, not {given}"))
    return faults


def _place(steps: Loc, section: Any) -> Iterator[str | int]:
    """Of the place that pydantic says, what stands in the section: not its names for members of a union."""
    for step in steps:
        inside: Mapping[Any, Any] = dict(enumerate(section)) if isinstance(section, list) else {}
        inside = section if isinstance(section, Mapping) else inside
        if step in inside or not MEMBER.fullmatch(str(step)):
            yield step
            section = inside.get(step)


def short(value: object) -> str:
    """The value as an error message can afford to show it, and as a file has it."""
    text = str(value).lower() if isinstance(value, bool) else repr(_lists(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def tuples(value: Any) -> Any:
    """A file's lists as the tuples that settings hold."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def _lists(value: Any) -> Any:
    return list(map(_lists, value)) if isinstance(value, tuple) else value
