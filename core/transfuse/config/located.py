"""Settings that remember where they were written, so that an error can point at the line.

Registries are laid over each other, recipes extend recipes, ``--set`` comes last: what is validated in
the end stands nowhere as a whole, but each of its values does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfuse.config import merge, yaml_text
from transfuse.config.validation import Loc, Misfit, dotted
from transfuse.errors import TransfuseError


@dataclass(frozen=True)
class Spot:
    """source: who wrote it, ``registry.yaml:4:`` or ``--set``. place: where in there, ``image.codec``."""

    source: str
    place: Loc


@dataclass(frozen=True)
class Written:
    """A value of plain data. spots: where its parts were written, by their place in the value."""

    value: Any
    spots: Mapping[Loc, Spot]

    @classmethod
    def by(cls, source: str, value: Any, place: Loc = ()) -> "Written":
        """A value written by one source at one place."""
        return cls(value, {(): Spot(source, place)})

    @classmethod
    def in_file(cls, path: Path) -> "Written":
        """The data of a YAML file; an empty file is an empty mapping."""
        value, lines = yaml_text.read_file(path, str(path))
        spots = {loc: Spot(f"{path}:{line}:", loc) for loc, line in lines.items()}
        return cls({} if value is None else value, {(): Spot(f"{path}:", ()), **spots})

    def at(self, *loc: str | int) -> "Written":
        """The part at a place that is there."""
        value = self.value
        for step in loc:
            value = value[step]
        spots = {spot[len(loc) :]: where for spot, where in self.spots.items() if spot[: len(loc)] == loc}
        return Written(value, {(): self.spot(loc), **spots})

    def put(self, key: str, part: "Written") -> "Written":
        """This mapping with ``part`` in place of what it had at ``key``."""
        spots = {(key, *loc): where for loc, where in part.spots.items()}
        return Written({**self.value, key: part.value}, {**self.without(key).spots, **spots})

    def without(self, key: str) -> "Written":
        """This mapping without a key."""
        value = {name: inner for name, inner in self.value.items() if name != key}
        return Written(value, {loc: where for loc, where in self.spots.items() if loc[:1] != (key,)})

    def lay(self, over: "Written") -> "Written":
        """``over`` on top of this, as `transfuse.config.merge.lay` has it."""
        value = merge.lay(self.value, over.value)
        spots = {**self.spots, **over.spots, (): self.spot(())}
        return Written(value, {loc: where for loc, where in spots.items() if _holds(value, loc)})

    def spot(self, loc: Loc) -> Spot:
        """Where the value at ``loc`` was written, or the nearest thing around it."""
        for length in range(len(loc), -1, -1):
            if loc[:length] in self.spots:
                spot = self.spots[loc[:length]]
                return Spot(spot.source, (*spot.place, *loc[length:]))
        return Spot("", loc)

    def error(self, misfit: Misfit) -> TransfuseError:
        """The misfit's faults, each with source, line and dotted place."""
        return TransfuseError("\n".join(self.sentence(loc, text) for loc, text in misfit.faults))

    def sentence(self, loc: Loc, text: str) -> str:
        """One fault as a line: ``registry.yaml:4: model.dmi: unknown key``."""
        spot = self.spot(loc)
        place = f"{dotted(spot.place)}:" if spot.place else ""
        return " ".join(word for word in (spot.source, place, text) if word)


def _holds(value: Any, loc: Loc) -> bool:
    for step in loc:
        members: Any = dict(enumerate(value)) if isinstance(value, list) else value
        if not isinstance(members, Mapping) or step not in members:
            return False
        value = members[step]
    return True
