"""Which emoji are held out: cells of role × gender × skin tone whose words and pairs are all trained on."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

GENDERS = ("man", "woman", "person")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
SHARES = {"test": 0.2, "tune": 0.1}  # of the cells


class Cell(NamedTuple):
    """What a caption composes: ``woman firefighter: dark skin tone`` is firefighter × woman × dark."""

    role: str
    gender: str
    tone: str


def cell(caption: str) -> Cell | None:
    """The cell of a caption, None where it is no person in a role with one skin tone.

    The gender is the first word if that is ``man``, ``woman`` or ``person``, else ``person``, as CLDR
    writes ``firefighter`` for a firefighter of no gender; the role is the rest. ``facing right`` is no
    part of it: a picture and its mirror image are one cell, held out together.

    >>> cell("woman firefighter: dark skin tone")
    Cell(role='firefighter', gender='woman', tone='dark')
    >>> cell("person running: light skin tone, facing right")
    Cell(role='running', gender='person', tone='light')
    >>> cell("man: dark skin tone, red hair"), cell("firefighter")
    (None, None)
    """
    who, colon, how = caption.removesuffix(", facing right").partition(": ")
    tone = how.removesuffix(" skin tone")
    if not colon or tone == how or tone not in TONES:
        return None
    first, _, rest = who.partition(" ")
    found = Cell(rest, first, tone) if first in GENDERS else Cell(who, "person", tone)
    return found if found.role else None


def heldout(captions: Sequence[str], shares: Mapping[str, float] = SHARES) -> dict[int, str]:
    """The places of the captions that are held out, each with its split. The rule:

    1. A *role* takes part where at least two genders have it in all five skin tones.
    2. The cells of those roles are taken in the order of the SHA-256 of ``emoji role/gender/tone``, so
       that neither a random generator nor the order of the captions can move the split.
    3. A cell is held out if another cell of the same (role, gender), one of the same (role, tone) and
       one of the same (gender, tone) stay in training: for the first of ``shares`` until its share of the cells are
       held out, then for the next.

    So every word of a held-out caption and every pair of its properties is trained on, and what is
    tested is their composition. All else, and so every word that occurs only once, is trained on.
    """
    places: dict[Cell, list[int]] = {}
    for place, caption in enumerate(captions):
        if (found := cell(caption)) is not None:
            places.setdefault(found, []).append(place)
    tones = Counter((found.role, found.gender) for found in places)
    whole = Counter(role for (role, _), count in tones.items() if count == len(TONES))
    cells = sorted((found for found in places if whole[found.role] >= 2), key=_chance)
    left = Counter(pair for found in cells for pair in _pairs(found))
    wanted = [split for split, share in shares.items() for _ in range(int(share * len(cells)))]
    chosen: dict[int, str] = {}
    for found in cells:
        if wanted and all(left[pair] > 1 for pair in _pairs(found)):
            left.subtract(_pairs(found))
            chosen |= dict.fromkeys(places[found], wanted.pop(0))
    return chosen


def _pairs(found: Cell) -> list[tuple[str, ...]]:
    role, gender, tone = found
    return [("role", role, "gender", gender), ("role", role, "tone", tone), ("gender", gender, "tone", tone)]


def _chance(found: Cell) -> bytes:
    return hashlib.sha256(("emoji " + "/".join(found)).encode()).digest()
