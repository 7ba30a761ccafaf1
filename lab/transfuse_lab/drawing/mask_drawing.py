"""Masks as pictures, for the terminal, as SVG and as PNG, with documents and spans marked along both sides.

A row is a query, a column a key; a filled cell means "sees". In all three, `doc` and `span` are marked where the
columns have them.
"""

from html import escape
from itertools import groupby

import numpy as np
from transfuse.masks.columns import NONE, Columns, as_array
from transfuse.masks.mask import Mask
from transfuse_pictures.files import image_bytes

SEEN, SAME_SPAN, UNSEEN = "#3d5a80", "#ee6c4d", "#f1f3f5"
"""Colours of a cell that is seen, seen within its own span, and not seen."""
LINE = "#212529"
"""Between documents."""
DOCS = ("#adb5bd", "#dee2e6")
SPANS = ("#ee6c4d", "#f4a261")
WIDEST = 200
"""A terminal picture has at most this many keys."""


def terminal(mask: Mask, columns: Columns) -> str:
    """Lines of '#' and '.', each led by its query's document (last digit) and span (a letter, or a space).

    >>> from transfuse import masks
    >>> print(terminal(masks.parse("same(doc) & le(idx)"), {"doc": [0, 0, 1], "idx": [0, 1, 2]}))
       001
    <BLANKLINE>
    0  #..
    0  ##.
    1  ..#
    """
    lines = mask.draw(columns)
    if len(lines) > WIDEST:
        return f"({len(lines)} positions are too many for a terminal: write a PNG or SVG)"
    doc, span = (_column(columns, name, len(lines)) for name in ("doc", "span"))
    docs = [" " if d < 0 else str(int(d) % 10) for d in doc]
    spans = [" " if s < 0 else chr(ord("a") + int(s) % 26) for s in span]
    head = ["   " + "".join(docs), "   " + "".join(spans)]
    rows = [f"{doc}{span} {line}" for doc, span, line in zip(docs, spans, lines, strict=True)]
    return "\n".join(line.rstrip() for line in [*head, *rows])


def _column(columns: Columns, name: str, size: int) -> np.ndarray:
    return as_array(columns[name]) if name in columns else np.full(size, NONE)


def colours(mask: Mask, columns: Columns) -> tuple[np.ndarray, list[str | None], list[str | None]]:
    """Per cell its colour [T, T], and per position the colours of its document and span (None: none)."""
    allowed = mask.allowed(columns)
    size = len(allowed)
    doc, span = (_column(columns, name, size) for name in ("doc", "span"))
    within = (span[:, None] == span[None]) & (span >= 0)[:, None]
    cells = np.where(allowed, np.where(within, SAME_SPAN, SEEN), UNSEEN)
    docs = [None if d < 0 else DOCS[int(d) % 2] for d in doc]
    return cells, docs, [None if s < 0 else SPANS[int(s) % 2] for s in span]


def svg(mask: Mask, columns: Columns, cell: int = 8) -> str:
    """A standalone SVG; the rule is its title."""
    cells, docs, spans = colours(mask, columns)
    size, edge = len(cells), 2
    whole = (size + edge) * cell

    def rectangle(x: int, y: int, width: int, height: int, colour: str) -> str:
        sides = f'x="{x * cell}" y="{y * cell}" width="{width * cell}" height="{height * cell}"'
        return f'<rect {sides} fill="{colour}"/>'

    parts = [rectangle(edge, edge, size, size, UNSEEN)]
    for along, marks in enumerate((docs, spans)):
        for start, end, colour in _runs(marks):
            parts.append(rectangle(start + edge, along, end - start, 1, colour))
            parts.append(rectangle(along, start + edge, 1, end - start, colour))
    for i, row in enumerate(cells):
        for start, end, colour in _runs([None if c == UNSEEN else str(c) for c in row]):
            parts.append(rectangle(start + edge, i + edge, end - start, 1, colour))
    grid = "".join(f"M{(i + edge) * cell} {edge * cell}v{size * cell}" for i in range(size + 1))
    grid += "".join(f"M{edge * cell} {(i + edge) * cell}h{size * cell}" for i in range(size + 1))
    parts.append(f'<path d="{grid}" stroke="#ffffff" stroke-width="0.5" fill="none"/>')
    for i in _documents(columns, size):
        at = (i + edge) * cell
        line = f"M{at} 0V{whole}M0 {at}H{whole}"
        parts.append(f'<path d="{line}" stroke="{LINE}" stroke-width="1" fill="none"/>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{whole}" viewBox="0 0 {whole} {whole}">\n'
        f"<title>{escape(str(mask))}</title>\n{body}\n</svg>\n"
    )


def _documents(columns: Columns, size: int) -> list[int]:
    """Where another document begins."""
    doc = _column(columns, "doc", size)
    return (np.flatnonzero(doc[1:] != doc[:-1]) + 1).tolist()


def _runs(colour: list[str | None]) -> list[tuple[int, int, str]]:
    """Start, end and colour of each stretch of one colour, None left out."""
    runs, end = [], 0
    for this, stretch in groupby(colour):
        start, end = end, end + len(list(stretch))
        if this is not None:
            runs.append((start, end, this))
    return runs


def png(mask: Mask, columns: Columns, cell: int = 8) -> bytes:
    """A PNG of the same picture; cells of less than 8 pixels have no grid."""
    cells, docs, spans = colours(mask, columns)
    size, edge = len(cells), 2
    image = np.full((size + edge, size + edge, 3), 255, np.uint8)
    names, index = np.unique(cells.reshape(-1), return_inverse=True)
    palette = np.array([_rgb(name) for name in names], np.uint8).reshape(-1, 3)
    image[edge:, edge:] = palette[index].reshape(size, size, 3)
    for along, marks in enumerate((docs, spans)):
        for i, colour in enumerate(marks):
            if colour is not None:
                image[along, i + edge] = image[i + edge, along] = _rgb(colour)
    image = image.repeat(cell, 0).repeat(cell, 1)
    if cell >= 8:
        first = edge * cell
        image[first::cell, first:] = image[first:, first::cell] = 255
        for i in _documents(columns, size):
            at = (i + edge) * cell
            image[at] = image[:, at] = _rgb(LINE)
    return image_bytes(image.transpose(2, 0, 1) / 255)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
