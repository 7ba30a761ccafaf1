"""Layouts as text: "text:5 image:16+noised text:4 / text:8" as the columns of a packed row."""

import re

import numpy as np
from transfuse.config.validation import short
from transfuse.errors import TransfuseError

PIECE = re.compile(
    r"(?P<name>[A-Za-z_]\w*):(?P<size>[0-9]{1,18})(?P<marks>(?:\+[A-Za-z_]\w*(?:=-?[0-9]{1,18})?)*)\Z"
)
SPANLESS = "text"
"""The one name whose positions form no span."""
LARGEST = 4096
OWN = ("doc", "idx", "pos", "span", "item", "block")


def columns(layout: str) -> dict[str, np.ndarray]:
    """The columns of documents, parted by '/', of items `name:positions`, parted by blanks.

    `doc`, `idx` (row-wide), `pos` (per document), `item` and `block` (items counted in the row and in the
    document), `span` (items other than text, unique in the row), and a 0/1 flag for each name. `+mark` sets
    the flag `mark`, `+name=3` the column `name` (−1 where it is not set); neither may be one of the above.
    """
    sizes = (int(found["size"]) for found in map(PIECE.match, layout.replace("/", " ").split()) if found)
    if (size := sum(sizes)) > LARGEST:
        raise TransfuseError(
            f"layout {short(layout)}: {size} positions are too many to draw; {LARGEST} at most"
        )
    rows: list[dict[str, int]] = []
    flags, ids = set(), set()
    item = 0
    for doc, part in enumerate(layout.split("/")):
        pieces = part.split()
        if not pieces:
            raise TransfuseError(
                f"layout {short(layout)}: document {doc} is empty; write items such as text:5"
            )
        pos = 0
        for block, piece in enumerate(pieces):
            name, size, marks = _piece(layout, piece)
            flags |= {name} | {mark for mark, value in marks.items() if value is None}
            ids |= {mark for mark, value in marks.items() if value is not None}
            own = {
                "doc": doc,
                "item": item,
                "block": block,
                "span": -1 if name == SPANLESS else item,
                name: 1,
            }
            own |= {mark: 1 if value is None else value for mark, value in marks.items()}
            rows += [{**own, "pos": pos + i} for i in range(size)]
            item, pos = item + 1, pos + size
    if wrong := (flags | ids) & set(OWN) or flags & ids:
        raise TransfuseError(f"layout {short(layout)}: {sorted(wrong)[0]!r} is a column of its own already")
    made = {name: np.array([row.get(name, -1 if name in ids else 0) for row in rows]) for name in flags | ids}
    basic = {name: np.array([row[name] for row in rows]) for name in OWN if name != "idx"}
    return {**basic, "idx": np.arange(len(rows)), **made}


def _piece(layout: str, piece: str) -> tuple[str, int, dict[str, int | None]]:
    match = PIECE.match(piece)
    if match is None or not int(match["size"]):
        raise TransfuseError(
            f"layout {short(layout)}: {short(piece)} is no item; write name:positions, such as image:16, with marks "
            "behind it, such as +noised or +frame=2, and ' / ' between documents"
        )
    marks: dict[str, int | None] = {}
    for mark in match["marks"].split("+")[1:]:
        name, _, value = mark.partition("=")
        marks[name] = int(value) if value else None
    return match["name"], int(match["size"]), marks
