"""What nobody set is chosen to suit the data: how much smaller codecs and patchers make an item, how long rows are.

A part takes part by its settings' `scaled` (`transfuse.config.parts.Settings`), whoever wrote it; how many positions an
item then has is asked of its modality. What a file or ``--set`` says stays as it is, and a run that goes on keeps what
was chosen when it began.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import log2, prod
from typing import Any

import numpy as np
from transfuse.config.parts import Chosen, Settings, naming_key
from transfuse.config.recipe import Recipe
from transfuse.config.validation import InvalidSettings
from transfuse.documents import Item
from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.codec import GridModality
from transfuse.modalities.fit_context import CPU
from transfuse.modalities.modality import Modality

FEWEST, USUAL, MOST = 16, 64, 256
"""Positions of an item: at least, preferably, at most."""
PATCH = 2
"""Of the parts that make an item smaller all but the first do it by 2 where that can be: a patch of 2 by 2, as the
paper has it, of what a codec made."""
LARGEST_SCALE = 4096
DOCUMENTS, LONGEST_ROW, LONGEST_DOCUMENT = 4, 2048, 4096
"""A row holds so many documents of usual length, if it is no longer than that; and the longest, up to that."""
STEP = 16
"""Rows have a multiple of so many positions."""
OUTSIDE = 1000.0

Place = tuple[str, ...]
"""Where in a modality's section a part stands: ``("codec",)``."""


def choose(role: str, modality: Chosen, raws: Sequence[Any]) -> Chosen:
    """A modality with what nobody set chosen so that an item has about 64 positions, and 16 to 256.

    raws: of its raw data, one of each shape. Where those have 16 to 64 by the defaults, the defaults stay; where
    nothing leads to 16 to 256, it is what comes nearest.
    """
    places = list(_free(modality))
    if not places or not raws:
        return modality
    lengths = _lengths(role, modality, raws)
    if lengths and all(FEWEST <= length <= USUAL for length in lengths):
        return modality
    best, least = modality, _distance(lengths)
    powers = [2**i for i in range(LARGEST_SCALE.bit_length())]
    for scales in (powers, [scale for scale in range(3, LARGEST_SCALE // USUAL) if scale not in powers]):
        for scale in scales:
            scaled, lengths = _scaled(role, modality, places, scale, raws)
            if (distance := _distance(lengths)) < least:
                best, least = scaled, distance
            elif best is not modality and least < OUTSIDE:
                break  # larger scales only lead away
        if least < OUTSIDE:
            break
    return best


def budget(recipe: Recipe, lengths: Sequence[int] | np.ndarray) -> int:
    """The row budget: the recipe's, if it was set, or is enough for documents of these lengths."""
    found = np.asarray(lengths)
    found = found[found > 0]
    if "budget" in recipe.train.model_fields_set or not found.size:
        return recipe.train.budget
    longest = int(found.max())
    wanted = min(DOCUMENTS * int(np.median(found)), LONGEST_ROW)
    wanted = max(wanted, longest if longest <= LONGEST_DOCUMENT else 0)
    return max(recipe.train.budget, -(-wanted // STEP) * STEP)


def as_before(recipe: Recipe, before: Mapping[str, Any]) -> Recipe:
    """The recipe with what nobody set and is chosen as an earlier one has it. before: its dump, or its ``modalities``
    with no more than codecs."""
    sections = before["modalities"]
    modalities = {role: _kept(chosen, sections.get(role, {})) for role, chosen in recipe.modalities.items()}
    train = recipe.train
    if "budget" in before.get("train", {}) and "budget" not in train.model_fields_set:
        train = train.changed(budget=before["train"]["budget"])
    return recipe.model_copy(update={"modalities": modalities, "train": train})


def differences(before: Recipe, after: Recipe) -> list[str]:
    """What was chosen, as ``--set`` takes it: ``image.codec.down=8``."""
    said = []
    for role, chosen in before.modalities.items():
        for place in (*_free(chosen), ()):
            was, now = _at(chosen, place).settings, _at(after.modalities[role], place).settings
            for name in type(now).model_fields:
                value = getattr(now, name)
                if not isinstance(value, Chosen) and getattr(was, name) != value:
                    said.append(f"{'.'.join((role, *place, name))}={value}")
    if before.train.budget != after.train.budget:
        said.append(f"train.budget={after.train.budget}")
    return list(dict.fromkeys(said))


# -- parts that can be scaled


def _free(modality: Chosen, place: Place = ()) -> Iterator[Place]:
    """The places of the parts whose scale nobody set: those inside, in the order of their fields, then itself."""
    for name in type(modality.settings).model_fields:
        if isinstance(inner := getattr(modality.settings, name), Chosen):
            yield from _free(inner, (*place, name))
    try:
        if modality.settings.scaled(1) is not None:
            yield place
    except InvalidSettings:  # it has a say, and not this one
        yield place


def _at(modality: Chosen, place: Place) -> Chosen:
    return reduce(lambda part, name: getattr(part.settings, name), place, modality)


def _with(modality: Chosen, place: Place, change: Callable[[Settings], Settings]) -> Chosen:
    """The modality with other settings of the part at a place. Raises InvalidSettings where they do not go together."""
    if not place:
        return replace(modality, settings=change(modality.settings))
    inner = _with(getattr(modality.settings, place[0]), place[1:], change)
    return replace(modality, settings=modality.settings.changed(**{place[0]: inner}))


def _scaled(
    role: str, modality: Chosen, places: Sequence[Place], scale: int, raws: Sequence[Any]
) -> tuple[Chosen, list[int]]:
    """The modality with items ``scale`` times smaller along a side, and their lengths; none where that cannot be."""
    for scales in _split(scale, len(places)):
        tried = modality
        try:
            for place, by in zip(places, scales, strict=True):
                tried = _with(tried, place, lambda settings, by=by: settings.scaled(by) or settings)
        except InvalidSettings:
            continue
        if lengths := _lengths(role, tried, raws):
            return tried, lengths
    return modality, []


def _split(scale: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to share a scale among parts, best first: see `PATCH`."""
    if parts == 1:
        yield (scale,)
        return
    shares = [by for by in range(1, scale + 1) if not scale % by]
    # The first makes an item at least as much smaller as the last, where it can.
    for last in sorted(shares, key=lambda by: (by * by > scale, abs(by - PATCH), by)):
        yield from ((*rest, last) for rest in _split(scale // last, parts - 1))


def _lengths(role: str, modality: Chosen, raws: Sequence[Any]) -> list[int]:
    """How many positions the raw data become; none where they cannot."""
    try:
        built = replace(modality, builds=Modality, others=()).build(name=role)
        if isinstance(built, GridModality):
            return [_positions(built, np.shape(raw)) for raw in raws]
        seam.fit(built, raws, 0, lambda line: None, 0.0, CPU)
        payloads = [seam.payload(built, "encode", raw) for raw in raws]
        items = [Item(role, raw) for raw in raws]
        return [
            seam.spans(built, item, payload)[0].length for item, payload in zip(items, payloads, strict=True)
        ]
    except TransfuseError:
        return []


def _positions(modality: GridModality, shape: tuple[int, ...]) -> int:
    sides = seam.call(modality.codec, "grid", shape)
    if any(side % modality.patch for side in sides):
        raise TransfuseError(f"a grid of {sides} does not divide into patches of {modality.patch}")
    return prod(side // modality.patch for side in sides)


def _distance(lengths: Sequence[int]) -> float:
    """How far they are from what is wanted; over `OUTSIDE` where some are outside of the limits."""
    if not lengths or not all(lengths):
        return float("inf")
    outside = sum(not FEWEST <= length <= MOST for length in lengths) * OUTSIDE
    return outside + sum(abs(log2(length / USUAL)) for length in lengths) / len(lengths)


def _kept(modality: Chosen, section: Mapping[str, Any]) -> Chosen:
    """A modality or a part with what nobody set, where it is chosen, as a section of the same part has it."""
    if section.get(naming_key(modality.kind)) != modality.name:
        return modality
    settings, values = modality.settings, dict[str, Any]()
    chosen = () in set(_free(modality))
    for name in type(settings).model_fields:
        inner, before = getattr(settings, name), section.get(name)
        if isinstance(inner, Chosen) and isinstance(before, Mapping):
            values[name] = _kept(inner, before)
        elif (
            chosen
            and name in section
            and name not in settings.model_fields_set
            and not isinstance(before, Mapping)
        ):
            values[name] = before
    return replace(modality, settings=settings.changed(**values)) if values else modality
