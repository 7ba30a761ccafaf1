"""``--set key=value``: overrides as what they are, small recipes merged over one."""

import re
from collections.abc import Collection, Sequence

from transfuse.config import yaml_text
from transfuse.config.located import Located
from transfuse.config.merge import SETTLES
from transfuse.config.recipe import ROOTS
from transfuse.config.validation import short
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.registry.files import RecipeEntry

SOURCE = "--set"
WORD = r"[A-Za-z_][A-Za-z0-9_-]*"
KEY = re.compile(rf"{WORD}(\.{WORD}){{0,20}}")


def read_overrides(texts: Sequence[str], roles: Collection[str]) -> list[Located]:
    """The overrides as recipe entries, lowest first, each of the right shape.

    Those that give a role another modality (``image=image_vq``) come first, so that what else is given
    about the role holds for the new one. Otherwise order means nothing, but the last of one key counts.
    Raises `TransfuseError`.
    """
    named, rest = Located.from_source(SOURCE, {}), Located.from_source(SOURCE, {})
    # Files come before what they settle, so that neither clears the other: a contradiction is an error.
    read = [_read(text, roles) for text in texts]
    read.sort(key=lambda item: (len(item[0]), item[0][-1] not in SETTLES))
    if {("train", "steps"), ("train", "flops")} <= {loc for loc, _ in read}:
        raise TransfuseError(f"{SOURCE}: give one of train.steps and train.flops")
    for loc, over in read:
        if loc[0] == "modalities" and len(loc) == 2 and not isinstance(over.at(*loc).value, dict):
            named = named.merge(over)
        else:
            rest = rest.merge(over)
    for link in (named, rest):
        link.validate(RecipeEntry)
    return [named, rest]


def _read(text: str, roles: Collection[str]) -> tuple[tuple[str, ...], Located]:
    """Where in a recipe an override goes, and the recipe that has nothing else."""
    key, equals, given = text.partition("=")
    key, given = key.strip(), given.strip()
    if not equals or not KEY.fullmatch(key) or not given:
        raise TransfuseError(
            f"{SOURCE} {short(text)}: write key=value, such as model.dim=128 or loss.image=5"
        )
    words = tuple(key.split("."))
    if words[0] not in (*roles, *ROOTS):
        raise TransfuseError(f"{SOURCE} {key}: unknown key, {did_you_mean(words[0], [*roles, *ROOTS])}")
    loc = words if words[0] in ROOTS else ("modalities", *words)
    value = yaml_text.read(given, f"{SOURCE} {key}")[0]
    inner = Located.from_source(SOURCE, value, words).locations
    for word in reversed(loc):
        value = {word: value}
    return loc, Located(value, {(*loc, *at): where for at, where in inner.items()})
