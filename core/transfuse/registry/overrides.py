"""``--set key=value``: overrides as what they are, small recipes merged over one."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from transfuse.config import yaml_text
from transfuse.config.located import Located
from transfuse.config.merge import SETTLES
from transfuse.config.recipe import ROOTS
from transfuse.config.validation import Loc, short
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.registry.files import RecipeEntry

SOURCE = "--set"
WORD = r"[A-Za-z_][A-Za-z0-9_-]*"
KEY = re.compile(rf"{WORD}(\.{WORD}){{0,20}}")


def read_overrides(texts: Sequence[str], roles: Collection[str]) -> list[Located]:
    """The overrides as recipe entries, lowest first, each of the right shape.

    Those that give a role another modality (``image=image_vq``) come first, so that what else is given
    about the role holds for the new one. Otherwise order means nothing, but the last of one key counts.
    Raises `TransfuseError`, also where one override replaces what another says.
    """
    named, rest = Located.from_source(SOURCE, {}), Located.from_source(SOURCE, {})
    # Files come before what they settle, so that neither clears the other: a contradiction is an error.
    read = [_read(text, roles) for text in texts]
    last = dict(read)
    read = [(loc, over) for loc, over in read if over is last[loc] or isinstance(over.at(*loc).value, dict)]
    read.sort(key=lambda item: (len(item[0]), item[0][-1] not in SETTLES))
    for loc, over in read:
        over.validate(RecipeEntry)
        if loc[0] == "modalities" and len(loc) == 2 and not isinstance(over.at(*loc).value, dict):
            named = named.merge(over)
        else:
            rest = rest.merge(over)
    for _, over in read:
        for loc in _replaced(over.value, named.merge(rest).value):
            raise TransfuseError(over.sentence(loc, f"is replaced by another {SOURCE}: give one of the two"))
    return [named, rest]


def _replaced(given: Any, kept: Any, loc: Loc = ()) -> Iterator[Loc]:
    """The places of what is given and not kept; a name is kept in the section that has it."""
    inside = kept if isinstance(kept, Mapping) else {}
    if isinstance(given, Mapping):
        for key, value in given.items():
            yield from _replaced(value, inside.get(key, kept), (*loc, key))
    elif given is not kept and given not in (kept, inside.get("name"), inside.get("kind")):
        yield loc


def _read(text: str, roles: Collection[str]) -> tuple[tuple[str, ...], Located]:
    """Where in a recipe an override goes, and the recipe that has nothing else."""
    key, equals, given = text.partition("=")
    key, given = key.strip(), given.strip()
    if not equals or not KEY.fullmatch(key) or not given:
        raise TransfuseError(f"{SOURCE} {short(text)}: write key=value, such as model.dim=64 or loss.image=5")
    words = tuple(key.split("."))
    if words[0] not in (*roles, *ROOTS):
        raise TransfuseError(f"{SOURCE} {key}: unknown key, {did_you_mean(words[0], [*roles, *ROOTS])}")
    loc = words if words[0] in ROOTS else ("modalities", *words)
    value = yaml_text.read(given, f"{SOURCE} {key}")[0]
    inner = Located.from_source(SOURCE, value, words).locations
    for word in reversed(loc):
        value = {word: value}
    return loc, Located(value, {(*loc, *at): where for at, where in inner.items()})
