"""Settings that remember where they were written, so that an error can point at the line.

Registries are merged, recipes extend recipes, ``--set`` comes last: what is validated in the end stands
nowhere as a whole, but each of its values does.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfuse.config import yaml_text
from transfuse.config.merge import merge
from transfuse.config.validation import InvalidSettings, Loc, Model, dotted, validate
from transfuse.errors import TransfuseError


@dataclass(frozen=True)
class Location:
    """Where a value was written."""

    source: str
    """Who wrote it: ``registry.yaml:`` or ``--set``."""
    place: Loc
    """Where in there: ``image.codec``."""
    line: str = ""
    """``4:`` in a file."""


@dataclass(frozen=True)
class Located:
    """A value of plain data and masks."""

    value: Any
    locations: Mapping[Loc, Location]
    """Where its parts were written, by their place in the value; what was written last comes last."""

    @classmethod
    def from_source(cls, source: str, value: Any, place: Loc = ()) -> "Located":
        """A value that one source wrote at a place."""
        return cls(value, {loc: Location(source, (*place, *loc)) for loc in _places(value)})

    @classmethod
    def from_file(cls, path: Path) -> "Located":
        """The data of a YAML file; an empty file is an empty mapping."""
        value, lines = yaml_text.read_file(path)
        found = {loc: Location(f"{path}:", loc, f"{line}:") for loc, line in lines.items()}
        return cls({} if value is None else value, {(): Location(f"{path}:", ()), **found})

    def at(self, *loc: str | int) -> "Located":
        """The part at a place that is there."""
        value = self.value
        for step in loc:
            value = value[step]
        inside = {at[len(loc) :]: where for at, where in self.locations.items() if at[: len(loc)] == loc}
        return Located(value, {(): self.location(loc), **inside})

    def put(self, key: str, part: "Located") -> "Located":
        """This mapping with ``part`` in place of what it had at ``key``."""
        inside = {(key, *loc): where for loc, where in part.locations.items()}
        return Located({**self.value, key: part.value}, {**self.without(key).locations, **inside})

    def without(self, key: str) -> "Located":
        """This mapping without a key."""
        value = {name: inner for name, inner in self.value.items() if name != key}
        return Located(value, {loc: where for loc, where in self.locations.items() if loc[:1] != (key,)})

    def merge(self, over: "Located") -> "Located":
        """``over`` on top of this, as `transfuse.config.merge.merge` has it."""
        value = merge(self.value, over.value)
        above = {loc: where for loc, where in over.locations.items() if loc != ()}
        below = {loc: where for loc, where in self.locations.items() if loc not in above}
        places = set(_places(value))
        return Located(value, {loc: where for loc, where in {**below, **above}.items() if loc in places})

    def location(self, loc: Loc) -> Location:
        """Where the value at ``loc`` was written, or the nearest thing around it."""
        for length in range(len(loc), -1, -1):
            if near := self.locations.get(loc[:length]):
                return Location(near.source, (*near.place, *loc[length:]), near.line)
        return Location("", loc)

    def validate(self, model: type[Model], context: object = None) -> Model:
        """This value as a ``model``. Raises TransfuseError with the place of each fault."""
        with self.errors():
            return validate(model, self.value, context)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises what `InvalidSettings` says of this value as a TransfuseError, each fault with its place."""
        try:
            yield
        except InvalidSettings as invalid:
            faults = (self.sentence(loc, text) for loc, text in invalid.faults)
            raise TransfuseError("\n".join(faults)) from invalid

    def sentence(self, loc: Loc, text: str) -> str:
        """One fault as a line: ``registry.yaml:4: model.dmi: unknown key``.

        Where another source changed something inside a section last, a fault of the section is of that.
        """
        where = self.location(loc)
        last = [inner for at, inner in self.locations.items() if at[: len(loc)] == loc][-1:]
        if last and last[0].source != where.source:
            where = last[0]
        place = f"{dotted(where.place)}:" if where.place else ""
        return " ".join(word for word in (where.source + where.line, place, text) if word)


def _places(value: Any, loc: Loc = ()) -> Iterator[Loc]:
    """The place of a value and of all values inside it."""
    yield loc
    listed = enumerate(value) if isinstance(value, list) else ()
    for step, inner in value.items() if isinstance(value, Mapping) else listed:
        yield from _places(inner, (*loc, step))
