"""Edits: an instruction about one thing of a scene, and the scene after it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from transfuse_scenes.grammar import PLACES, Grammar
from transfuse_scenes.world import CELLS, COLOURS, JITTERS, SHAPES, SIZES, Pair, Scene, Thing

_PLACE = "|".join(sorted(PLACES, key=len, reverse=True))
_PAIR = rf"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
FORMS = {
    "recolour": re.compile(rf"make the {_PAIR} ({'|'.join(COLOURS)})"),
    "resize": re.compile(rf"make the {_PAIR} ({'|'.join(SIZES)})"),
    "move": re.compile(rf"put the {_PAIR} ({_PLACE})"),
    "remove": re.compile(rf"remove the {_PAIR}()"),
    "add": re.compile(rf"add a {_PAIR} ({_PLACE})"),
}
"""The instructions there are: about a colour and a shape, with a value or none."""


@dataclass(frozen=True)
class Edit:
    """An instruction. value: the new colour, the new size, or a place in words; empty for ``remove``."""

    kind: str
    pair: Pair
    value: str = ""

    def __str__(self) -> str:
        thing = " ".join(self.pair)
        return {
            "recolour": f"make the {thing} {self.value}",
            "resize": f"make the {thing} {self.value}",
            "move": f"put the {thing} {self.value}",
            "remove": f"remove the {thing}",
            "add": f"add a {thing} {self.value}",
        }[self.kind]

    @property
    def target(self) -> Pair:
        """Colour and shape of the thing afterwards."""
        return (self.value, self.pair[1]) if self.kind == "recolour" else self.pair


def read(text: str) -> Edit | None:
    """The edit that these words ask for; None: they are no instruction."""
    for kind, form in FORMS.items():
        if match := form.fullmatch(text):
            return Edit(kind, (match[1], match[2]), match[3])
    return None


def draw(scene: Scene, grammar: Grammar, rng: np.random.Generator) -> tuple[Edit, Scene]:
    """One of the kinds of edit that the scene allows, each as likely; then one of that kind, and the scene after it.

    scene: of things that differ in colour or shape. What stands together afterwards may do so by the grammar.
    """
    by_kind: dict[str, list[Edit]] = {}
    for edit in _possible(scene, grammar):
        by_kind.setdefault(edit.kind, []).append(edit)
    some = by_kind[sorted(by_kind)[rng.integers(len(by_kind))]]
    edit = some[rng.integers(len(some))]
    return edit, apply(edit, scene, rng)


def _possible(scene: Scene, grammar: Grammar) -> Iterator[Edit]:
    taken = {thing.cell for thing in scene}
    free = [PLACES[cell] for cell in range(CELLS) if cell not in taken]
    for thing in scene:
        rest = [other.pair for other in scene if other is not thing]
        for colour in COLOURS:
            if colour != thing.colour and _lawful([(colour, thing.shape), *rest], grammar):
                yield Edit("recolour", thing.pair, colour)
        yield from (Edit("resize", thing.pair, size) for size in SIZES if size != thing.size)
        yield from (Edit("move", thing.pair, place) for place in free)
        if rest:
            yield Edit("remove", thing.pair)
    if len(scene) < max(len(grammar.lengths), 2):
        for pair in grammar.pairs:
            if _lawful([pair, *(thing.pair for thing in scene)], grammar):
                yield from (Edit("add", pair, place) for place in free)


def _lawful(pairs: list[Pair], grammar: Grammar) -> bool:
    return len(set(pairs)) == len(pairs) and {*pairs} <= {*grammar.pairs} and grammar.together(pairs)


def apply(edit: Edit, scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene afterwards. What is moved or added stands off its cell's centre by a new jitter; the rest stays."""
    rest = [thing for thing in scene if thing.pair != edit.pair]
    if edit.kind == "remove":
        return tuple(rest)
    down, across = (JITTERS[i] for i in rng.integers(len(JITTERS), size=2))
    if edit.kind == "add":
        colour, shape = edit.pair
        added = Thing(PLACES.index(edit.value), shape, colour, tuple(SIZES)[rng.integers(2)], down, across)
        return tuple(sorted([*scene, added]))
    (thing,) = (thing for thing in scene if thing.pair == edit.pair)
    if edit.kind == "recolour":
        changed = replace(thing, colour=edit.value)
    elif edit.kind == "resize":
        changed = replace(thing, size=edit.value)
    else:
        changed = replace(thing, cell=PLACES.index(edit.value), down=down, across=across)
    return tuple(sorted([*rest, changed]))


def done(edit: Edit, before: Scene, after: Scene) -> tuple[bool, bool]:
    """Whether the thing is as the instruction wants it, and whether all else is as it was; jitter does not matter.

    The thing itself may have stayed as it was, so a copy of the picture keeps all else.
    """
    rest = sorted(thing.told for thing in before if thing.pair != edit.pair)
    things = [thing for thing in after if thing.pair == edit.target]
    old = next((thing for thing in before if thing.pair == edit.pair), None)
    others = sorted(
        thing.told for thing in after if thing.pair != edit.target and (old is None or thing.told != old.told)
    )
    if edit.kind == "remove":
        return not things, others == rest
    if len(things) != 1:
        return False, others == rest
    (thing,) = things
    wanted = {
        "recolour": old is not None and (thing.cell, thing.size) == (old.cell, old.size),
        "resize": old is not None and (thing.cell, thing.size) == (old.cell, edit.value),
        "move": old is not None and (thing.cell, thing.size) == (_cell(edit), old.size),
        "add": thing.cell == _cell(edit),
    }
    return wanted[edit.kind], others == rest


def _cell(edit: Edit) -> int | None:
    return PLACES.index(edit.value) if edit.value in PLACES else None
